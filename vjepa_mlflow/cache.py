"""The folder for what can always be made again."""

import fcntl
import functools
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.paths import expand


def cache_folder() -> Path:
    """`$VJEPA_MLFLOW_CACHE`, or `vjepa-mlflow` in the user's cache folder."""
    named = os.environ.get("VJEPA_MLFLOW_CACHE")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return expand("VJEPA_MLFLOW_CACHE", named) if named else user_cache / "vjepa-mlflow"


TEMPORARY_PREFIX = ".writing-"
"""Of files and folders that are not complete, and stay so where their writer was killed."""

ATTEMPTS = 10
"""To write a file, since the cache may be deleted at any time."""

DAY = 24 * 3600
"""Seconds after which nobody writes any more, where a file system has no locks."""


def write_atomically(path: Path, *content: bytes | memoryview, within: Path | None = None) -> None:
    """Writes a file that appears complete or not at all, whoever else writes it at the same time.

    Args:
        path: the file.
        content: its parts, one after the other.
        within: a folder above it, where it lies until it is complete, so that what killed writers leave is found
            there; None: the file's own.

    Raises:
        OSError: the file cannot be written; nothing of it is left.
    """
    folder = within or path.parent
    sweep(folder)
    for left in reversed(range(ATTEMPTS)):
        temporary = folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                is_held(file.fileno())  # until it has its name; if somebody sweeps it away before, it is missing then
                file.writelines(content)
                file.flush()
                temporary.replace(path)
            return
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink()
            # Its folder was deleted between two of these lines.
            if not (left and isinstance(error, FileNotFoundError | FileExistsError)):
                raise


@functools.cache
def sweep(folder: Path) -> None:
    """Deletes what killed writers left half done in a folder; once for each folder in this process."""
    with suppress(OSError):
        for left in list(os.scandir(folder)):
            if left.name.startswith(TEMPORARY_PREFIX):
                remove_abandoned(Path(left.path))


def remove_abandoned(temporary: Path) -> None:
    """Deletes a file or a folder that is not complete, unless its writer is still at it."""
    with suppress(OSError):
        is_folder = temporary.is_dir()
        flags = os.O_RDONLY if is_folder else os.O_RDWR | os.O_NONBLOCK  # a pipe is not waited for
        descriptor = os.open(temporary, flags | os.O_NOFOLLOW)
        try:
            held = is_held(descriptor)
            if held is None:
                held = time.time() - os.fstat(descriptor).st_mtime < DAY
            if not held:
                shutil.rmtree(temporary, ignore_errors=True) if is_folder else temporary.unlink()
        finally:
            os.close(descriptor)


def is_held(descriptor: int) -> bool | None:
    """Takes the lock of an open file, and tells whether somebody else holds it; None where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def build_once(name: str, build: Callable[[Path], None]) -> Path:
    """Returns the cached folder `name`, built on first use.

    The folder appears in one rename when it is complete, so an interrupted or concurrent build leaves nothing half
    done.

    Raises:
        UserError: there is no place for it.
    """
    folder = cache_folder() / name
    if not folder.is_dir():
        try:
            _build(folder, build)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be made ({one_line(error)}): expected room, and the right to write there; "
                f"VJEPA_MLFLOW_CACHE names another folder"
            ) from error
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    with _temporary_folder(folder.parent) as temporary:
        complete = temporary / folder.name
        complete.mkdir()
        build(complete)
        try:
            complete.rename(folder)
        except OSError:
            if not folder.is_dir():  # not another process that was faster
                raise


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder that goes after the block; one whose process was killed goes with the next `sweep`."""
    sweep(parent)
    for left in reversed(range(ATTEMPTS)):
        temporary = parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        try:
            temporary.mkdir(parents=True)
            descriptor = os.open(temporary, os.O_RDONLY)
        except FileNotFoundError:
            if not left:
                raise
            continue
        if not is_held(descriptor) and temporary.exists():  # else another process sweeps it away
            break
        os.close(descriptor)
    try:
        yield temporary
    finally:
        os.close(descriptor)
        shutil.rmtree(temporary, ignore_errors=True)
