"""What is not complete, or goes with its process: held by a lock, so that what a dead one left is found and goes."""

import errno
import fcntl
import functools
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vjepa_mlflow.errors import UserError, expected, is_full, one_line

PREFIX = ".writing-"
"""Of the names of such files and folders."""

DAY = 24 * 3600
"""Seconds after which nobody writes a file any more, where a file system has no locks."""

ATTEMPTS = 10
"""To make a file or a folder, since others may delete everything at any time."""


def is_held(descriptor: int) -> bool | None:
    """Takes the lock of an open file or folder, and tells whether somebody else holds it; None where there are none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


@functools.cache
def sweep(folder: Path) -> None:
    """Deletes what killed processes left half done in a folder; once for each folder in this process."""
    with suppress(OSError):
        for left in list(os.scandir(folder)):
            if left.name.startswith(PREFIX):
                remove_abandoned(Path(left.path))


def remove_abandoned(temporary: Path) -> None:
    """Deletes a file or a folder that is not complete, unless its process is still at it, or that cannot be told."""
    with suppress(OSError):
        is_folder = temporary.is_dir()
        flags = os.O_RDONLY if is_folder else os.O_RDWR | os.O_NONBLOCK  # a pipe is not waited for
        descriptor = os.open(temporary, flags | os.O_NOFOLLOW)
        try:
            held = is_held(descriptor)
            if held is None:
                held = is_folder or time.time() - os.fstat(descriptor).st_mtime < DAY
            if not held:
                shutil.rmtree(temporary, ignore_errors=True) if is_folder else temporary.unlink()
        finally:
            os.close(descriptor)


@contextmanager
def temporary_folder_in(parent: Path) -> Iterator[Path]:
    """A folder in another one, made where it is missing, that goes after the block or, where that is killed, later.

    Raises:
        OSError: it cannot be made.
    """
    sweep(parent)
    folder, descriptor = hold(parent)
    try:
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def hold(parent: Path, *, private: bool = False) -> tuple[Path, int]:
    """Makes a folder in another one, and gives the descriptor whose lock holds it until it is closed.

    Args:
        parent: made where it is missing; others of this user's processes may delete it where it is empty.
        private: whether nobody else may look into it, nor have made it.

    Raises:
        OSError: it cannot be made.
    """
    for left in reversed(range(ATTEMPTS)):
        name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = _make_within(parent, name, private=private)
        except (FileNotFoundError, FileExistsError):
            if not left:
                raise
            continue
        if not is_held(descriptor) and (parent / name).exists():
            return parent / name, descriptor
        os.close(descriptor)
    raise FileExistsError(errno.EEXIST, "others delete what is made there", str(parent))


def _make_within(parent: Path, name: str, *, private: bool) -> int:
    """Makes a folder in one that is looked at, whatever has its name by then."""
    place = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if private else 0))
    try:
        if private:
            if os.fstat(place).st_uid != os.geteuid():
                raise PermissionError(errno.EACCES, f"{parent.name} there is another user's")
            os.fchmod(place, 0o700)
        os.mkdir(name, 0o700, dir_fd=place)
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
    finally:
        os.close(place)


class _Own:
    """The folder in which this process has what is temporary, while blocks of any threads need it."""

    lends = False

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks = 0
        self.base: Path | None = None
        self.folder: Path | None = None
        self._descriptor = -1
        self._before: tuple[str | None, str | None] | None = None

    def enter(self) -> None:
        with self.lock:
            if not self.blocks:
                self._begin(_base())
            self.blocks += 1

    def leave(self) -> None:
        with self.lock:
            self.blocks = max(0, self.blocks - 1)  # a fork may be in a block that was not its own
            if not self.blocks and self.folder is not None:
                self._end(self.folder)

    def _begin(self, base: Path) -> None:
        named = os.environ.get("TMPDIR")
        if self.lends and named and Path(os.path.abspath(named)) != base:  # noqa: PTH100, Python took another in silence
            raise UserError(f"TMPDIR={named}: nothing can be written there: expected a folder, with room")
        if base.name.startswith(PREFIX) and base.parent.name == _root(base).name:
            base = base.parent.parent  # that of a process of ours, which has started this one
        try:
            self.folder, self._descriptor = hold(_root(base), private=True)
            sweep.__wrapped__(_root(base))  # at each start, since others come and go
        except OSError as error:
            raise UserError(
                f"TMPDIR={base}: what is temporary cannot be kept there ({one_line(error)}): expected {expected(error)}"
            ) from error
        self.base = base
        if self.lends:
            self._before = tempfile.tempdir, os.environ.get("TMPDIR")
            _name(str(self.folder), str(self.folder))

    def _end(self, folder: Path) -> None:
        if self._before is not None:
            _name(*self._before)
        os.close(self._descriptor)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # where others have theirs
            folder.parent.rmdir()
        self.folder = self._before = None


_OWN = _Own()
os.register_at_fork(after_in_child=_OWN.__init__)  # type: ignore[misc]  # what it had stays its parent's


def lend_to_libraries() -> None:
    """Has libraries put what is temporary into this process's own folder, too: MLflow leaves whole models behind.

    For a process that is ours alone: in another one, what others make there would go as well.
    """
    _OWN.lends = True


@contextmanager
def own_temporaries() -> Iterator[None]:
    """Has this process a folder of its own for what is temporary, which goes with the last such block, or the process.

    Raises:
        UserError: there is no place for such a folder.
    """
    _OWN.enter()
    try:
        yield
    finally:
        _OWN.leave()


def own_place() -> str | None:
    """A new folder for what lasts as long as the block of `own_temporaries`; None outside of one."""
    return None if _OWN.folder is None else tempfile.mkdtemp(dir=_OWN.folder)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that goes with the block, or with the process.

    Raises:
        UserError: there is no place, or no room, for it.
    """
    with own_temporaries():
        try:
            with tempfile.TemporaryDirectory(dir=_OWN.folder) as folder:
                yield Path(folder)
        except OSError as error:
            if message := lack_of_room(error):
                raise UserError(message) from error
            raise


def lack_of_room(error: BaseException) -> str:
    """What to tell of an error that comes of a full disk below `TMPDIR`; empty for others."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while _OWN.base is not None and following is not None and following not in seen:
        if any(place in str(following) for place in _places(_OWN.base)) and is_full(following):
            return f"TMPDIR={_OWN.base}: no room for what is temporary (No space left on device): expected some there"
        seen.append(following)
        following = following.__cause__ or following.__context__
    return ""


def _places(base: Path) -> tuple[str, str]:
    """How the paths begin of what we, and libraries, make in a folder for what is temporary."""
    return str(_root(base)), str(base / tempfile.gettempprefix())


def _base() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise UserError(f"TMPDIR={os.environ.get('TMPDIR', '')}: {one_line(error)}: expected one with room") from error


def _root(base: Path) -> Path:
    return base / f"vjepa-mlflow-{os.geteuid()}"


def _name(module: str | None, environment: str | None) -> None:
    tempfile.tempdir = module
    if environment is None:
        os.environ.pop("TMPDIR", None)
    else:
        os.environ["TMPDIR"] = environment
