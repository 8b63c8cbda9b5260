"""Rooms load when used: which names they have, and what they load."""

import importlib
from pathlib import Path

import pytest

import vjepa_mlflow
from vjepa_mlflow.lazy import _imports_for_type_checkers

PACKAGE = Path(vjepa_mlflow.__file__).parent
ROOMS = sorted(
    path.parent
    for path in PACKAGE.rglob("__init__.py")
    if "load_when_used(__name__" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("folder", ROOMS, ids=lambda folder: folder.name)
def test_every_name_is_there_and_is_no_modules(folder: Path) -> None:
    room = importlib.import_module(".".join(folder.relative_to(PACKAGE.parent).parts))
    names = dict(_imports_for_type_checkers((folder / "__init__.py").read_bytes()))
    assert names
    for name, module in names.items():
        assert getattr(room, name) is getattr(importlib.import_module(module), name)
        # Python sets a package's attribute to the module of that name once it is imported.
        assert not (folder / f"{name}.py").exists()
    with pytest.raises(AttributeError, match=f"module '{room.__name__}' has no attribute 'no_such_name'"):
        room.no_such_name  # noqa: B018


def test_most_rooms_do() -> None:
    assert {"data", "evaluation", "features", "flavor", "model", "search", "tracking", "training", "video"} <= {
        folder.name for folder in ROOMS
    }
