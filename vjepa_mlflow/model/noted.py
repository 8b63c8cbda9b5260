"""What is noted of a model's files, by what they are: reading gigabytes again takes seconds."""

from collections.abc import Iterable
from pathlib import Path

from vjepa_mlflow.cache import cache_folder
from vjepa_mlflow.digest import sha256_of_text

VERSION = 1
"""Changes with what is noted and how files are looked at, so that no older note is taken for it."""


def model_notes(cache: str) -> Path | None:
    """The folder for what is noted of models' files, with the recipe's `cache`; None where nothing is kept on disk."""
    return cache_folder() / "models" if cache == "disk" else None


def note_of(folder: Path | None, *about: object) -> Path | None:
    """Where something is noted, in a folder of notes; None where nothing is."""
    return None if folder is None else folder / sha256_of_text("\n".join(map(str, (VERSION, *about))))


def state_of(files: Iterable[Path]) -> str:
    """What changes with files, as far as can be told without reading them; of one that is not there, that it is not."""
    return "\n".join(f"{path} {_state(path)}" for path in files)


def _state(path: Path) -> str:
    try:
        status = path.resolve().stat()
    except OSError:
        return "none"
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
