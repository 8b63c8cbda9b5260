"""The feature store as a folder: what it holds, and pruning it. Nothing here needs PyTorch."""

import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.cache import cache_folder
from vjepa_mlflow.files.paths import is_there
from vjepa_mlflow.files.reading import read_json
from vjepa_mlflow.files.temporary import PREFIX, remove_abandoned

SUFFIX = ".safetensors"
DESCRIPTION = "space.json"
LARGEST_DESCRIPTION = 1 << 16


def store_folder() -> Path:
    """Where all features are kept: a folder for each space."""
    return cache_folder() / "features"


def entry_path(folder: Path, name: str) -> Path:
    """The file of a clip's features in the folder of a space."""
    return folder / name[:2] / f"{name}{SUFFIX}"


def free_space(folder: Path) -> int:
    """Bytes free where a folder is or would be made."""
    while not is_there(folder):
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
        fault: why they cannot be read; empty where they can.
    """

    folder: Path
    description: dict[str, object]
    entries: list[Entry]
    fault: str = ""

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(entry.size for entry in self.entries)


def list_contents() -> list[Contents]:
    """What the store holds, space by space.

    Raises:
        UserError: the store may not be read.
    """
    try:
        folders = sorted(path for path in store_folder().iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(
            f"feature store {store_folder()}: cannot be read ({error.strerror}): expected the right to; "
            f"VJEPA_MLFLOW_CACHE names another folder"
        ) from error
    return [_list(folder) for folder in folders]


def _list(folder: Path) -> Contents:
    try:
        return Contents(folder, _describe(folder), sorted(_entries(folder), key=_last_use))
    except OSError as error:
        return Contents(folder, _describe(folder), [], f"cannot be read ({error.strerror})")


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
    """Deletes entries, what killed writers left, also of older versions, and folders that are empty then.

    Raises:
        UserError: this user may not delete all of them.
    """
    denied = [entry for entry in entries if not _delete(entry)]
    for left in store_folder().rglob(f"{PREFIX}*"):
        remove_abandoned(left)
    for space in list_contents():
        if not space.entries and not space.fault:
            shutil.rmtree(space.folder, ignore_errors=True)
    if denied:
        raise UserError(
            f"feature store {store_folder()}: {len(denied)} features cannot be deleted, the first is "
            f"{denied[0].path}: expected the right to write there"
        )


def _delete(entry: Entry) -> bool:
    """Deletes an entry; whether it is gone."""
    try:
        entry.path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _last_use(entry: Entry) -> float:
    return entry.used


def _describe(folder: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        description = read_json(folder / DESCRIPTION, at_most=LARGEST_DESCRIPTION)
        return description if isinstance(description, dict) else {}
    return {}


def _entries(folder: Path) -> Iterator[Entry]:
    """Raises OSError where a folder may not be read."""
    for below in folder.iterdir():
        with suppress(FileNotFoundError, NotADirectoryError):  # another process may have pruned it
            for path in below.iterdir():
                with suppress(FileNotFoundError):
                    status = path.stat()
                    if path.name.endswith(SUFFIX) and stat.S_ISREG(status.st_mode):
                        yield Entry(path, status.st_size, status.st_mtime)
