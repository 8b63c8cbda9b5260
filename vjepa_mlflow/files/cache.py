"""The folder for what can always be made again, which users may share, and what in it is one user's alone."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vjepa_mlflow.errors import DENIED, UserError, expected
from vjepa_mlflow.files.paths import expand, home, is_there
from vjepa_mlflow.files.sharing import make_folder, open_to_sharers
from vjepa_mlflow.files.temporary import ATTEMPTS, PREFIX, is_held, sweep

USERS = "users"
"""The folder of a cache that has a folder for each user but its owner, by the number of the user."""


def cache_folder() -> Path:
    """The folder that users may share: `$VJEPA_MLFLOW_CACHE`, or `vjepa-mlflow` in the user's cache folder.

    Raises:
        UserError: there is neither.
    """
    named = os.environ.get("VJEPA_MLFLOW_CACHE")
    return expand("VJEPA_MLFLOW_CACHE", named) if named else _cache_of_user()


def _cache_of_user() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "vjepa-mlflow"


def own_folder(kind: str) -> Path:
    """A folder that is this user's alone, made on first use, for what cannot be made again or is run, such as `outbox`.

    It lies in the cache where that is this user's, in `users` of one that is shared, or else in the user's own cache.

    Raises:
        UserError: there is no place for it.
    """
    for place in _own_places():
        try:
            _make_in(place, kind)
            return place / kind
        except OSError as error:
            refused, refusal = place / kind, error
            if error.errno not in DENIED:
                break
    raise UserError(
        f"{refused}: cannot be made ({refusal.strerror}): expected {expected(refusal)}, for what is this user's alone; "
        f"VJEPA_MLFLOW_CACHE names another folder"
    ) from refusal


def _own_places() -> Iterator[Path]:
    shared = cache_folder()
    if not is_there(shared) or shared.stat().st_uid == os.geteuid():
        yield shared
    yield shared / USERS / str(os.geteuid())
    yield _cache_of_user()


def _make_in(place: Path, kind: str) -> None:
    for left in reversed(range(ATTEMPTS)):
        try:
            _make_own(place, kind)
            return
        except FileNotFoundError:  # another process has deleted it, since it was empty
            if not left:
                raise


def _make_own(place: Path, kind: str) -> None:
    if place.parent.name == USERS:
        make_folder(place.parent)
        _make_private(place)
    else:
        make_folder(place)
    _make_private(place / kind)
    if not os.access(place / kind, os.W_OK):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def _make_private(folder: Path) -> None:
    """Makes a folder that nobody else may look into; refuses one that is another's, or that another's link leads to."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if {folder.stat().st_uid, folder.lstat().st_uid} != {os.geteuid()}:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


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
        temporary = folder / f"{PREFIX}{uuid.uuid4().hex}"
        try:
            make_folder(path.parent)
            with temporary.open("wb") as file:
                is_held(file.fileno())  # until it has its name; if somebody sweeps it away before, it is missing then
                open_to_sharers(file.fileno(), path.parent)
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
