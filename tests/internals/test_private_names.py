"""What is used of others' undocumented parts: all of it is in one room, and still there in what is installed."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers import PYPROJECT

import vjepa_mlflow

PACKAGE = Path(vjepa_mlflow.__file__).parent
ROOM = PACKAGE / "internals"
MODULES = sorted(path for path in ROOM.glob("*.py") if path.name != "__init__.py")
DEPENDENCIES = ("mlflow", "optuna", "torch", "transformers")


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The names that a module imports of these dependencies, wherever in it, each with its module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in DEPENDENCIES:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.partition(".")[0] in DEPENDENCIES)


def private_attributes(path: Path) -> Iterator[str]:
    """Like `torch.cuda._is_in_bad_fork`: private attributes of what begins with a dependency's name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            whole = ast.unparse(node)
            if whole.partition(".")[0] in DEPENDENCIES:
                yield whole


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


def allowed(dependency: str) -> str:
    (line,) = [line for line in PYPROJECT["project"]["dependencies"] if line.startswith(f"{dependency}>")]
    return line


def lack(dependency: str, what: str, path: Path) -> str:
    return (
        f"{dependency} {version(dependency)} has no {what}, which vjepa_mlflow/internals/{path.name} needs; "
        f"pyproject.toml allows {allowed(dependency)}"
    )


USED = [(path, *used) for path in MODULES for used in imports(path)]


@pytest.mark.parametrize(("path", "module", "name"), USED, ids=lambda value: getattr(value, "stem", value))
def test_every_name_is_there(path: Path, module: str, name: str) -> None:
    dependency = module.partition(".")[0]
    try:
        found = importlib.import_module(module)
        is_there = not name or hasattr(found, name) or bool(importlib.import_module(f"{module}.{name}"))
    except ImportError:
        is_there = False
    assert is_there, lack(dependency, f"{module}.{name}".rstrip("."), path)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_private_attribute_is_there(path: Path) -> None:
    for whole in private_attributes(path):
        dependency, *attributes = whole.split(".")
        found = importlib.import_module(dependency)
        for attribute in attributes:
            assert hasattr(found, attribute), lack(dependency, whole, path)
            found = getattr(found, attribute)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_module_says_for_which_versions_it_was_looked_at(path: Path) -> None:
    assert allowed(path.stem.partition("_")[0]) in (inspect.getdoc(importlib.import_module(module_name(path))) or "")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def test_nothing_private_is_used_anywhere_else() -> None:
    used = {
        (str(path.relative_to(PACKAGE)), what)
        for path in PACKAGE.rglob("*.py")
        if path.parent != ROOM
        for what in [*(f"{module}.{name}" for module, name in imports(path)), *private_attributes(path)]
        if is_private(what)
    }
    assert not used, f"{used}: expected vjepa_mlflow/internals alone to use what others do not document"


def test_a_lack_names_the_dependency_its_version_and_what_is_allowed() -> None:
    assert lack("torch", "torch._gone", ROOM / "torch_private.py") == (
        f"torch {version('torch')} has no torch._gone, which vjepa_mlflow/internals/torch_private.py needs; "
        f"pyproject.toml allows torch>=2.6,<3"
    )
