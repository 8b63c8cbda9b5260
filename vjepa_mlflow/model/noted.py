"""What is noted of a model's files, by what they are: reading gigabytes again takes seconds."""

from collections.abc import Iterable
from pathlib import Path

from vjepa_mlflow.cache import cache_folder
from vjepa_mlflow.digest import sha256_of_text

VERSION = 1
"""Changes with what is noted and how files are looked at, so that no older note is taken for it."""


def notes_folder() -> Path:
    return cache_folder() / "models"


def note_of(*about: object) -> Path:
    """Where something is noted."""
    return notes_folder() / sha256_of_text("\n".join(map(str, (VERSION, *about))))


def state_of(files: Iterable[Path]) -> str:
    """What changes with files, as far as can be told without reading them; of one that is not there, that it is not."""
    return "\n".join(f"{path} {_state(path)}" for path in files)


def _state(path: Path) -> str:
    try:
        status = path.resolve().stat()
    except OSError:
        return "none"
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
