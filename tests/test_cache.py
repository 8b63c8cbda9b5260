from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vjepa_mlflow.cache import build_once, cache_folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("VJEPA_MLFLOW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "vjepa-mlflow"


def test_a_folder_is_built_once() -> None:
    builds = []

    def build(folder: Path) -> None:
        builds.append(folder)
        (folder / "file").write_text("x")

    assert build_once("thing", build) == build_once("thing", build) == cache_folder() / "thing"
    assert len(builds) == 1
    assert [path.name for path in cache_folder().iterdir()] == ["thing"]


def test_a_build_that_fails_leaves_nothing() -> None:
    def build(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        build_once("thing", build)
    assert list(cache_folder().iterdir()) == []


def test_builds_at_once_end_in_one_whole_folder() -> None:
    def build(folder: Path) -> None:
        for number in range(50):
            (folder / str(number)).write_text("x")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: build_once("thing", build), range(8)))) == 1
    assert len(list((cache_folder() / "thing").iterdir())) == 50
    assert [path.name for path in cache_folder().iterdir()] == ["thing"]
