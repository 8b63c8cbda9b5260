"""Temporary folders, each held by a process with a lock: what was left by one that died goes at the next start."""

import errno
import fcntl
import multiprocessing.util
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vjepa_mlflow.errors import UserError, expected, is_full, one_line

PREFIX, LOCK_SUFFIX = ".temporary-", ".lock"

ATTEMPTS = 10
"""To make a folder, since others remove what nobody holds."""

LONGEST_SOCKET = 107
"""Bytes that the path of a Unix socket may have."""

SOCKET = "/pymp-12345678/listener-12345678"
"""Such as Python's multiprocessing makes in the temporary folder."""

COMPILED = "TORCHINDUCTOR_CACHE_DIR"


@dataclass(frozen=True)
class _Held:
    """A folder, and the open file whose lock holds it."""

    folder: Path
    lock: int

    def release(self) -> None:
        _remove(self.folder)
        os.close(self.lock)


@dataclass(frozen=True)
class _Own:
    """The folders of a process: for what is temporary, and a short one for sockets where the path is too long."""

    process: int
    base: str
    held: tuple[_Held, ...]

    @property
    def folder(self) -> Path:
        return self.held[0].folder


_state = threading.Lock()
_own: _Own | None = None
_users = 0
"""Blocks of `own_temporaries`, of all threads."""
_before: tuple[str | None, str | None] = None, None
"""What `tempfile` and the environment named outside of them."""


@contextmanager
def own_temporaries() -> Iterator[None]:
    """Has this process, and those that it starts in the block, put what is temporary into a folder that goes with it.

    Libraries too: MLflow leaves whole models behind where it is killed, or has fetched them.

    Raises:
        UserError: there is no place for such a folder.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that goes with the block, or with the process.

    Raises:
        UserError: there is no place, or no room, for it.
    """
    with own_temporaries():
        try:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)
        except OSError as error:
            if told := lack_of_room(error):
                raise UserError(told) from error
            raise


@contextmanager
def temporary_folder_in(root: Path) -> Iterator[Path]:
    """A folder in another one, from which it can be renamed; it goes with the block, or with the next such block.

    Raises:
        OSError: it cannot be made.
    """
    held = _hold(root)
    try:
        yield held.folder
    finally:
        held.release()


def lack_of_room(error: BaseException) -> str:
    """What to tell of an error that comes of a full disk below `TMPDIR`; empty for others."""
    own = _own
    seen: list[BaseException] = []
    following: BaseException | None = error
    while own is not None and following is not None and following not in seen:
        if str(own.folder) in str(following) and is_full(following):
            return f"TMPDIR={own.base}: no room for what is temporary (No space left on device): expected some there"
        seen.append(following)
        following = following.__cause__ or following.__context__
    return ""


def _enter() -> None:
    global _users, _before
    with _state:
        if not _users and not _is_in_own(base := _base()):
            own = _folder_of_process(base)
            _before = tempfile.tempdir, os.environ.get("TMPDIR")
            _name(str(own.folder), str(own.folder))
            # What PyTorch compiles for a GPU serves the next process too.
            os.environ.setdefault(COMPILED, str(_compiled(own.folder.parent)))
        _users += 1


def _leave() -> None:
    global _users
    with _state:
        _users -= 1
        if not _users and _own is not None and tempfile.tempdir == str(_own.folder):
            _name(*_before)


def _name(module: str | None, environment: str | None) -> None:
    tempfile.tempdir = module
    if environment is None:
        os.environ.pop("TMPDIR", None)
    else:
        os.environ["TMPDIR"] = environment


def _base() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise UserError(f"TMPDIR={os.environ.get('TMPDIR', '')}: {one_line(error)}: expected one with room") from error


def _root(base: Path) -> Path:
    return base / f"vjepa-mlflow-{os.geteuid()}"


def _compiled(root: Path) -> Path:
    return root / "torchinductor"


def _is_in_own(base: Path) -> bool:
    """Whether a folder is that of a process of ours, which has started this one."""
    return base.parent.name == _root(base).name and base.name.startswith(PREFIX)


def _folder_of_process(base: Path) -> _Own:
    global _own
    if _own is not None and _own.process == os.getpid() and _own.folder.is_dir():
        return _own
    try:
        held = [_hold(_own_root(base))]
        if len(os.fsencode(held[0].folder)) + len(SOCKET) > LONGEST_SOCKET:
            held.append(_hold(_own_root(Path("/tmp"))))
    except OSError as error:
        raise UserError(
            f"TMPDIR={base}: what is temporary cannot be kept there ({one_line(error)}): expected {expected(error)}"
        ) from error
    _own = _Own(os.getpid(), str(base), tuple(held))
    # After the folder for sockets, which multiprocessing removes with a priority of -100.
    multiprocessing.util.Finalize(None, _remove_own, args=(_own,), exitpriority=-200)
    before, tempfile.tempdir = tempfile.tempdir, str(held[-1].folder)
    multiprocessing.util.get_temp_dir()  # stays what it is from now on: where this process's sockets are
    tempfile.tempdir = before
    return _own


def _remove_own(own: _Own) -> None:
    for held in own.held:
        held.release()
        for folder in (_compiled(held.folder.parent), held.folder.parent):
            with suppress(OSError):  # where there is something in it, as where other processes have theirs
                folder.rmdir()


def _own_root(base: Path) -> Path:
    """This user's folder among everybody's; refuses one that somebody else has made there."""
    root = _root(base)
    root.mkdir(mode=0o700, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, f"{root.name} there is another user's")
    root.chmod(0o700)
    return root


def _hold(root: Path) -> _Held:
    """Makes a folder in another one, held until it is released, and removes those that nobody holds."""
    for left in reversed(range(ATTEMPTS)):
        folder = root / f"{PREFIX}{uuid.uuid4().hex[:8]}"
        with suppress(FileExistsError):
            try:
                root.mkdir(mode=0o700, exist_ok=True)  # others remove it where it is empty
                lock = os.open(_lock_of(folder), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            except FileNotFoundError:
                if not left:
                    raise
                continue
            if _is_taken(lock):
                folder.mkdir(mode=0o700)
                _remove_abandoned(root)
                return _Held(folder, lock)
            os.close(lock)
    raise FileExistsError(errno.EEXIST, "others remove what is made there", str(root))


def _is_taken(lock: int) -> bool:
    """Takes a lock; whether it is this process's now. Where a file system has no locks nobody removes anything."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return os.fstat(lock).st_nlink > 0  # else somebody took it for an abandoned one


def _remove_abandoned(root: Path) -> None:
    for path in root.glob(f"{PREFIX}*{LOCK_SUFFIX}"):
        with suppress(OSError):  # it is another user's, or gone
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path.with_suffix(""))
            finally:
                os.close(lock)


def _remove(folder: Path) -> None:
    """Deletes a folder and then its lock, so that one that was left in part is found again."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        _lock_of(folder).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + LOCK_SUFFIX)
