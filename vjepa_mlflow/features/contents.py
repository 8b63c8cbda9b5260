"""The feature store as a folder: what it holds, and pruning it. Nothing here needs PyTorch."""

import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vjepa_mlflow.cache import TEMPORARY_PREFIX, cache_folder, remove_abandoned
from vjepa_mlflow.reading import read_json

SUFFIX = ".safetensors"
DESCRIPTION = "space.json"
LARGEST_DESCRIPTION = 1 << 16


def store_folder() -> Path:
    """Where all features are kept: a folder for each space."""
    return cache_folder() / "features"


def free_space(folder: Path) -> int:
    """Bytes free where a folder is or would be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Entry:
    """One clip's stored features."""

    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Contents:
    """The stored features of one space.

    Attributes:
        folder: its folder.
        description: the attributes of its `FeatureSpace`; empty where they cannot be read.
        entries: its features, the longest unused first.
    """

    folder: Path
    description: dict[str, object]
    entries: list[Entry]

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(entry.size for entry in self.entries)


def list_contents() -> list[Contents]:
    """What the store holds, space by space."""
    folders = sorted(path for path in store_folder().glob("*") if path.is_dir())
    return [Contents(folder, _describe(folder), sorted(_entries(folder), key=_last_use)) for folder in folders]


def choose_old(contents: Iterable[Contents], *, older_than: float | None, max_size: float | None) -> list[Entry]:
    """The entries to prune.

    Args:
        contents: of the store.
        older_than: those that were not used for so many seconds.
        max_size: those that were unused for longest, until the rest has so many bytes.
    """
    entries = sorted((entry for space in contents for entry in space.entries), key=_last_use)
    size = sum(entry.size for entry in entries)
    chosen = []
    for entry in entries:
        too_old = older_than is not None and time.time() - entry.used > older_than
        too_much = max_size is not None and size > max_size
        if too_old or too_much:
            chosen.append(entry)
            size -= entry.size
    return chosen


def remove(entries: Iterable[Entry]) -> None:
    """Deletes entries, what killed writers left, also of older versions, and folders that are empty then."""
    for entry in entries:
        entry.path.unlink(missing_ok=True)
    for left in store_folder().rglob(f"{TEMPORARY_PREFIX}*"):
        remove_abandoned(left)
    for space in list_contents():
        if not space.entries:
            shutil.rmtree(space.folder, ignore_errors=True)


def _last_use(entry: Entry) -> float:
    return entry.used


def _describe(folder: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        said = read_json(folder / DESCRIPTION, at_most=LARGEST_DESCRIPTION)
        return said if isinstance(said, dict) else {}
    return {}


def _entries(folder: Path) -> Iterator[Entry]:
    for path in folder.glob(f"*/*{SUFFIX}"):
        with suppress(OSError):  # another process may have pruned it
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                yield Entry(path, status.st_size, status.st_mtime)
