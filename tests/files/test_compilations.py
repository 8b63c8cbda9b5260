import os
from pathlib import Path

import pytest

from vjepa_mlflow.files.compilations import INDUCTOR, TRITON, own_compilations


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (INDUCTOR, TRITON):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_compiled_lies_where_only_its_user_can_write_and_stays(own_cache: Path) -> None:
    with own_compilations():
        folder = Path(os.environ[INDUCTOR])
        assert folder == own_cache / "compiled"
        assert folder.stat().st_mode & 0o077 == 0
        assert Path(os.environ[TRITON]) == folder / "triton"
        (folder / "kernel").write_text("compiled")
    assert INDUCTOR not in os.environ
    assert TRITON not in os.environ
    assert (folder / "kernel").exists()


def test_where_nothing_is_compiled_nothing_is_left(own_cache: Path) -> None:
    with own_compilations():
        pass
    assert not (own_cache / "compiled").exists()


def test_places_that_the_user_names_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRITON, "/triton")
    with own_compilations():
        assert Path(os.environ[INDUCTOR]).name == "compiled"
        assert os.environ[TRITON] == "/triton"
    monkeypatch.setenv(INDUCTOR, "/inductor")
    with own_compilations():
        assert os.environ[INDUCTOR] == "/inductor"
