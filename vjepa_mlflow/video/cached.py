"""What is remembered of video files, by what they are now."""

import io
import os
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vjepa_mlflow.files.cache import cache_folder
from vjepa_mlflow.files.cached import cache_bytes, cached_bytes
from vjepa_mlflow.files.digest import sha256, sha256_of_text
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.timeline import Timeline

VERSION = 3
"""Changes with what is cached and how frames are chosen, so that no older values are taken for it."""

LEAST_BYTES = 4 * 2**20
"""Of a file whose timeline is cached, if it was not decoded: a smaller one's packets are read as fast as the cache."""


def video_cache_dir(cache: str) -> Path | None:
    """The folder for what is cached of video files, with the recipe's `cache`; None where nothing is kept on disk."""
    return cache_folder() / "videos" if cache == "disk" else None


def property_cache_dir(cache: str) -> Path | None:
    """The folder for what is measured of videos, likewise."""
    return cache_folder() / "properties" if cache == "disk" else None


class FileVersion(NamedTuple):
    """What changes with a file's content, as far as can be told without reading it: bytes, and nanoseconds."""

    size: int
    modified: int


def file_version(path: Path) -> FileVersion:
    """A file's version.

    Raises:
        OSError: there is no such file.
    """
    return version_of(path.stat())


def check_content(path: Path, digest: str) -> None:
    """Refuses a file whose content is not the one of a digest any more.

    Raises:
        VideoError: it is another one, or cannot be read.
    """
    try:
        if sha256([path]) != digest:
            raise VideoError("it has changed since it was checked")
    except OSError as error:
        raise VideoError(f"it cannot be read ({error.strerror})") from error


def version_of(status: os.stat_result) -> FileVersion:
    """The version of a file of this status."""
    return FileVersion(status.st_size, status.st_mtime_ns)


def cache_path(folder: Path | None, path: Path, version: FileVersion, about: str) -> Path | None:
    """Where values of a file in a version are cached, in a folder for them; None where none are."""
    return None if folder is None else _beginning(folder, path, version).with_suffix(f".{about}-{VERSION}")


def _beginning(folder: Path, path: Path, version: FileVersion) -> Path:
    """What the names of all entries of a file in a version begin with, before a dot."""
    name = sha256_of_text(f"{path.resolve()}\n{version.size}\n{version.modified}")
    return folder / name[:2] / name


def forget(folder: Path | None, path: Path, version: FileVersion) -> None:
    """Deletes all that is cached of a file in a version, where that can be done."""
    if folder is not None:
        beginning = _beginning(folder, path, version)
        for entry in beginning.parent.glob(f"{beginning.name}.*"):
            with suppress(OSError):
                entry.unlink()


def cache_timeline(folder: Path | None, path: Path, version: FileVersion, timeline: Timeline) -> None:
    """Caches a timeline that takes time to make, and nothing of another one, so that none is taken for this."""
    entry = cache_path(folder, path, version, "timeline")
    if entry is None or folder is None:
        return
    if version.size < LEAST_BYTES and not timeline.decoded:
        with suppress(OSError):
            entry.unlink()
        return
    content = io.BytesIO()
    values: dict[str, Any] = {field.name: getattr(timeline, field.name) for field in fields(Timeline)}
    np.savez(content, **values)
    cache_bytes(entry, content.getvalue(), within=folder)


def cached_timeline(folder: Path | None, path: Path, version: FileVersion | None) -> Timeline | None:
    """What `cache_timeline` kept of a file that still has this version."""
    with suppress(OSError, ValueError, KeyError):
        if folder is None or version is None or file_version(path) != version:
            return None
        entry = cache_path(folder, path, version, "timeline")
        if entry is not None and (content := cached_bytes(entry)) is not None:
            with np.load(io.BytesIO(content), allow_pickle=False) as values:
                arrays = {field.name: values[field.name] for field in fields(Timeline)}
            return Timeline(**{name: value if value.ndim else value.item() for name, value in arrays.items()})
    return None
