"""Paths as users give them, and names as file systems do."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from vjepa_mlflow.errors import UserError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""What an address begins with; a drive has one letter."""

_SHOWN = 120


def expand(option: str, path: str) -> Path:
    """A path, absolute, with the folder in place of `~` or `~name`: the working directory may be another one later.

    Raises:
        UserError: there is no such user; names the option.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"{option}={path}: its ~ stands for no folder ({error}): expected a path") from None


def home() -> Path:
    """The user's folder, without which MLflow cannot even be imported.

    Raises:
        UserError: this user has none.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise UserError(
            f"HOME is not set, and user {os.geteuid()} has no home folder: expected a folder of this user's in HOME"
        ) from None


def check_local(option: str, path: str) -> None:
    """Refuses an address, such as s3://bucket/videos, where a path is expected.

    Raises:
        UserError: names the option, and the way.
    """
    if _ADDRESS.match(path) and not is_there(Path(path)):
        raise UserError(
            f"{option}={path}: an address: expected a path on this machine; copy it here, or mount it (s3fs, gcsfuse, "
            f"rclone mount)"
        )


def is_there(path: Path) -> bool:
    """Whether a path leads somewhere; one that no file system would take does not."""
    return _holds(path.exists)


def is_file(path: Path) -> bool:
    """Whether a path leads to a file that may be looked at; one that no file system would take does not."""
    return _holds(path.is_file)


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder that may be looked at; one that no file system would take does not."""
    return _holds(path.is_dir)


def is_link(path: Path) -> bool:
    """Whether a path is a symbolic link; one that no file system would take is none."""
    return _holds(path.is_symlink)


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except (OSError, ValueError):
        return False


def text_of(name: str) -> str:
    """A file's name as text, the same in every locale: in UTF-8, whatever Python took its bytes for."""
    return os.fsencode(name).decode(errors="surrogateescape")


def name_of(text: str) -> str:
    """A text as a file's name, as Python has it in this locale."""
    return os.fsdecode(text.encode(errors="surrogateescape"))


def shortened(text: str) -> str:
    """A text that a sentence can hold."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"
