"""The folder for what can always be made again, which users may share, and what in it is one user's alone."""

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from vjepa_mlflow.errors import DENIED, UserError, expected, one_line
from vjepa_mlflow.paths import expand, home, is_there
from vjepa_mlflow.sharing import make_folder, open_to_sharers, open_tree_to_sharers
from vjepa_mlflow.temporary import temporary_folder_in

Note = TypeVar("Note")


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
    """A folder that is this user's alone, made on first use, for what cannot be made again, such as `outbox`.

    It lies in the cache where that is this user's, in `users` of one that is shared, or else in the user's own cache.

    Raises:
        UserError: there is no place for it.
    """
    for place in _own_places():
        try:
            _make_own(place, kind)
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


TEMPORARY_PREFIX = ".writing-"
"""Of files that are not complete, and stay so where their writer was killed."""

ATTEMPTS = 10
"""To write a file, since the cache may be deleted at any time."""


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Writes a file that appears complete or not at all, whoever else writes it at the same time.

    Args:
        path: the file.
        content: its parts, one after the other.

    Raises:
        OSError: the file cannot be written; nothing of it is left.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    for left in reversed(range(ATTEMPTS)):
        try:
            make_folder(path.parent)
            with temporary.open("wb") as file:
                open_to_sharers(file.fileno(), path.parent)
                file.writelines(content)
            temporary.replace(path)
            return
        except (FileNotFoundError, FileExistsError):  # its folder was deleted between two of these lines
            if not left:
                raise
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_note(note: Path | None, kind: Callable[..., Note]) -> Note | None:
    """What `write_note` wrote, or None where there is nothing that `kind` can be made of.

    Args:
        note: the file; None stands for none.
        kind: takes what was noted as keyword arguments.
    """
    with suppress(OSError, ValueError, TypeError):
        return None if note is None else kind(**json.loads(note.read_bytes()))
    return None


def write_note(note: Path | None, values: Mapping[str, object]) -> None:
    """Notes values for `read_note`, where that can be done: without a note, work is only done again."""
    with suppress(OSError):
        if note is not None:
            write_atomically(note, json.dumps(values).encode())


def build_once(name: str, build: Callable[[Path], None]) -> Path:
    """Returns the cached folder `name`, built on first use.

    The folder appears in one rename when it is complete, so an interrupted or concurrent build leaves nothing half
    done.

    Raises:
        UserError: there is no place for it.
    """
    folder = cache_folder() / name
    try:
        if not folder.is_dir():
            _build(folder, build)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({one_line(error)}): expected {expected(error)}; VJEPA_MLFLOW_CACHE names "
            f"another folder"
        ) from error
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    make_folder(folder.parent)
    with temporary_folder_in(folder.parent) as temporary:
        complete = temporary / folder.name
        complete.mkdir()
        build(complete)
        open_tree_to_sharers(complete, folder.parent)
        try:
            complete.rename(folder)
        except OSError:
            if not folder.is_dir():  # not another process that was faster
                raise
