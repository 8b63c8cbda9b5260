"""What is cached of a model's files, by what they are: reading gigabytes again takes seconds."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from vjepa_mlflow.files.cache import cache_folder
from vjepa_mlflow.files.digest import sha256_of_text

VERSION = 1
"""Changes with what is cached and how files are looked at, so that no older values are taken for it."""


def model_cache_dir(cache: str) -> Path | None:
    """The folder for what is cached of models' files, with the recipe's `cache`; None where nothing is kept on disk."""
    return cache_folder() / "models" if cache == "disk" else None


def cache_path(folder: Path | None, *about: object) -> Path | None:
    """Where values are cached, in a folder for them; None where none are."""
    return None if folder is None else folder / sha256_of_text("\n".join(map(str, (VERSION, *about))))


class FileState(NamedTuple):
    """What changes with a file, as far as can be told without reading it.

    Attributes:
        path: its name.
        size: in bytes; -1 of one that is not there.
        modified: when its content was changed, in nanoseconds.
        place: its device and inode, and when anything of it was changed, be it a link or a right.
    """

    path: str
    size: int
    modified: int
    place: str

    @classmethod
    def of(cls, path: Path) -> "FileState":
        try:
            status = path.resolve().stat()
        except OSError:
            return cls(str(path), -1, 0, "")
        place = f"{status.st_dev} {status.st_ino} {status.st_ctime_ns}"
        return cls(str(path), status.st_size, status.st_mtime_ns, place)


State = tuple[FileState, ...]
"""Of several files."""


def state_of(files: Iterable[Path]) -> State:
    return tuple(map(FileState.of, files))


def have_changed(before: State, now: State) -> bool:
    """Whether the content of files is another one.

    Their places are left out: a link more, or a network disk that was away for a moment, changes nothing that is read.
    """
    return [file[1:3] for file in before] != [file[1:3] for file in now]
