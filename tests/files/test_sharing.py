"""Users of one cache, as processes with another user's number: real permissions need more than one."""

import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.features.contents import list_contents
from vjepa_mlflow.files.cache import own_folder, write_atomically
from vjepa_mlflow.files.sharing import make_folder

FIRST, SECOND, GROUP = 54321, 54322, 54323

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to become other users")


def as_user(user: int, umask: int, work: Callable[[], None]) -> None:
    """Does something as a user of the group, in a process of its own."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([GROUP])
            os.setgid(user)
            os.setuid(user)
            os.umask(umask)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache that others can get to, as they cannot to pytest's folders."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    (root / "cache").mkdir()
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(root / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "home"))
    (root / "home").mkdir()
    os.chown(root / "home", SECOND, SECOND)
    yield root
    shutil.rmtree(root)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_what_one_makes_in_a_shared_folder_the_other_adds_to(place: Path, umask: int) -> None:
    cache = place / "cache"
    os.chown(cache, 0, GROUP)
    cache.chmod(0o2775)

    def fill(name: str) -> None:
        write_atomically(cache / "features" / "space" / name, b"content")
        make_folder(cache / name / "sub")
        (own_folder("outbox") / "entry").mkdir()

    def add() -> None:
        fill("second")
        write_atomically(cache / "features" / "space" / "first", b"other")
        (cache / "first" / "sub" / "more").touch()
        with pytest.raises(PermissionError):
            list((cache / "users" / str(FIRST)).iterdir())

    as_user(FIRST, umask, lambda: fill("first"))
    as_user(SECOND, 0o022, add)
    assert {path.stat().st_mode & 0o7777 for path in (cache / "features").glob("*/*")} == {0o664}
    assert {path.stat().st_mode & 0o7777 for path in (cache / "features", cache / "first" / "sub")} == {0o2775}
    assert {path.stat().st_mode & 0o777 for path in (cache / "users").glob("*/outbox")} == {0o700}
    assert not list(cache.glob(".*"))


def test_elsewhere_the_umask_decides(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "folder" / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "folder" / "file").stat().st_mode & 0o777 == 0o640


def test_in_anothers_cache_ones_own_is_elsewhere_and_what_is_closed_is_told(place: Path) -> None:
    cache = place / "cache"
    os.chown(cache, FIRST, FIRST)
    as_user(FIRST, 0o077, lambda: write_atomically(cache / "features" / "space" / "ab" / "x.safetensors", b"content"))

    def look() -> None:
        assert own_folder("outbox") == place / "home" / "vjepa-mlflow" / "outbox"
        with pytest.raises(UserError, match=r"^feature store .*: cannot be read \(Permission denied\)"):
            list_contents()
        os.environ["XDG_CACHE_HOME"] = str(cache)
        with pytest.raises(UserError, match=r"outbox: cannot be made \(Permission denied\): expected the right"):
            own_folder("outbox")

    as_user(FIRST, 0o022, lambda: own_folder("outbox").relative_to(cache) and None)
    as_user(SECOND, 0o022, look)
    (cache / "features").chmod(0o755)
    as_user(SECOND, 0o022, lambda: _fault_is_told(list_contents()[0].fault))


def _fault_is_told(fault: str) -> None:
    assert fault == "cannot be read (Permission denied)"
