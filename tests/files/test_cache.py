import shutil
import threading
import time
from pathlib import Path

import pytest

from vjepa_mlflow.files import cache
from vjepa_mlflow.files.cache import cache_folder, write_atomically
from vjepa_mlflow.files.temporary import PREFIX, is_held


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("VJEPA_MLFLOW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "vjepa-mlflow"


def test_a_file_is_written_whole_and_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for content in (b"first", b"second"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_folder_that_is_deleted_meanwhile_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    done = threading.Event()

    def delete() -> None:
        while not done.is_set():
            shutil.rmtree(path.parent, ignore_errors=True)
            time.sleep(0.002)

    deleting = threading.Thread(target=delete)
    deleting.start()
    try:
        for _ in range(200):
            write_atomically(path, b"content")
    finally:
        done.set()
        deleting.join()


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "inside").touch()
    with pytest.raises(OSError):  # noqa: PT011, of several kinds
        write_atomically(tmp_path / "file", b"content")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_writer_left_is_swept_away_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    left, folder, written = (tmp_path / f"{PREFIX}{name}" for name in ("left", "folder", "written"))
    left.touch()
    (folder / "inside").mkdir(parents=True)
    with written.open("wb") as file:
        is_held(file.fileno())
        write_atomically(tmp_path / "ab" / "file", b"content", within=tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [written.name, "ab"]


def test_a_writer_whose_file_is_swept_away_writes_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def steal(descriptor: int) -> bool:
        monkeypatch.undo()
        Path(f"/proc/self/fd/{descriptor}").readlink().unlink()
        return True

    monkeypatch.setattr(cache, "is_held", steal)
    write_atomically(tmp_path / "file", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
