"""What is remembered of video files, by what they are now."""

import io
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vjepa_mlflow.cache import cache_folder, write_atomically
from vjepa_mlflow.digest import sha256_of_text
from vjepa_mlflow.video.timeline import Timeline

VERSION = 2
"""Changes with what is noted and how frames are chosen, so that no older note is taken for it."""

LEAST_BYTES = 4 * 2**20
"""Of a file whose timeline is noted, if it was not decoded: a smaller one's packets are read as fast as a note."""


def video_notes(cache: str) -> Path | None:
    """The folder for what is noted of video files, with the recipe's `cache`; None where nothing is kept on disk."""
    return cache_folder() / "videos" if cache == "disk" else None


class FileVersion(NamedTuple):
    """What changes with a file's content, as far as can be told without reading it: bytes, and nanoseconds."""

    size: int
    modified: int


def file_version(path: Path) -> FileVersion:
    """A file's version.

    Raises:
        OSError: there is no such file.
    """
    status = path.stat()
    return FileVersion(status.st_size, status.st_mtime_ns)


def note_of(folder: Path | None, path: Path, version: FileVersion, about: str) -> Path | None:
    """Where something is noted of a file in a version, in a folder of notes; None where nothing is."""
    if folder is None:
        return None
    name = sha256_of_text(f"{path.resolve()}\n{version.size}\n{version.modified}\n{about}\n{VERSION}")
    return folder / name[:2] / name


def write_timeline(folder: Path | None, path: Path, version: FileVersion, timeline: Timeline) -> None:
    """Notes a timeline that takes time to make; without the note, it is only made again."""
    note = note_of(folder, path, version, "timeline")
    if note is None or (version.size < LEAST_BYTES and not timeline.decoded):
        return
    content = io.BytesIO()
    values: dict[str, Any] = {field.name: getattr(timeline, field.name) for field in fields(Timeline)}
    np.savez(content, **values)
    with suppress(OSError):
        write_atomically(note, content.getvalue())


def recall_timeline(folder: Path | None, path: Path, version: FileVersion | None) -> Timeline | None:
    """What `write_timeline` noted of a file that still has this version."""
    with suppress(OSError, ValueError, KeyError):
        if folder is not None and version is not None and file_version(path) == version:
            note = note_of(folder, path, version, "timeline")
            with np.load(str(note), allow_pickle=False) as values:
                found = {field.name: values[field.name] for field in fields(Timeline)}
            return Timeline(**{name: value if value.ndim else value.item() for name, value in found.items()})
    return None
