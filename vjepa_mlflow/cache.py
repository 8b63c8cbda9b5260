"""The folder for what can always be made again."""

import json
import os
import tempfile
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.paths import expand

Note = TypeVar("Note")


def cache_folder() -> Path:
    """`$VJEPA_MLFLOW_CACHE`, or `vjepa-mlflow` in the user's cache folder."""
    named = os.environ.get("VJEPA_MLFLOW_CACHE")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return expand("VJEPA_MLFLOW_CACHE", named) if named else user_cache / "vjepa-mlflow"


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
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
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
        return None if note is None else kind(**json.loads(note.read_text()))
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        complete = Path(temporary) / folder.name
        complete.mkdir()
        build(complete)
        try:
            complete.rename(folder)
        except OSError:
            if not folder.is_dir():  # not another process that was faster
                raise
