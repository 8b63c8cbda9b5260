"""A look at every video before anything depends on it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vjepa_mlflow.cache import read_note, write_note
from vjepa_mlflow.digest import sha256, sha256_of_text
from vjepa_mlflow.iteration import progress
from vjepa_mlflow.ranks import Share
from vjepa_mlflow.video.decode import read_clip, read_info
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.workers import WorkerPool


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


class Identity(NamedTuple):
    """What a file is: the SHA-256 of its content, hexadecimal, and its seconds."""

    digest: str
    seconds: float


def identify(path: Path) -> Identity:
    """Reads a file without decoding it.

    Raises:
        VideoError: it is not a video.
        OSError: it cannot be read.
    """
    return Identity(sha256([path]), read_info(path).seconds)


class Finding(NamedTuple):
    """What is noted of a good file.

    Attributes:
        digest: SHA-256 of its content, hexadecimal.
        seconds: how long it lasts.
        frames_per_second: on average.
        width: of the upright frames, in pixels.
        height: likewise.
        pace: seconds that it took to read its clip.
    """

    digest: str
    seconds: float
    frames_per_second: float
    width: int
    height: int
    pace: float


@dataclass(frozen=True)
class Inspection:
    """What the preflight found.

    Attributes:
        path: the file.
        finding: what it is; None for one that cannot be used.
        version: of the file that was looked at.
        fault: what is wrong with it; empty for one that can be used.
    """

    path: Path
    finding: Finding | None = None
    version: FileVersion | None = None
    fault: str = ""


def inspect_videos(
    paths: Sequence[Path], *, num_frames: int, stride: int, notes: Path | None = None, share: Share | None = None
) -> list[Inspection]:
    """Opens every file, decodes its centred clip and digests its content, several files at once.

    Args:
        paths: the files.
        num_frames: frames of the clip.
        stride: frames from one sampled frame to the next.
        notes: a folder that remembers what was found of good files, which are then not opened again until their size or
            their modification time changes; None remembers nothing.
        share: the files to begin with, where other processes begin with others and leave notes of them.
    """
    found: dict[int, Inspection] = {}
    opened: list[int] = []

    def unknown() -> Iterator[Path]:
        order = (share or Share()).first(len(paths))
        for index in progress(order, total=len(paths), description="Checking videos", unit="video"):
            known = inspect.recall(paths[index])
            if known is None:
                opened.append(index)
                yield paths[index]
            else:
                found[index] = known

    inspect = _Inspect(num_frames, stride, notes)
    inspections = list(WorkerPool(inspect).map(unknown()))
    found.update(zip(opened, inspections, strict=True))
    return [found[index] for index in range(len(paths))]


@dataclass(frozen=True)
class _Inspect:
    num_frames: int
    stride: int
    notes: Path | None

    def __call__(self, path: Path) -> Inspection:
        try:
            version = file_version(path)  # taken first: what changes while it is read is read again the next time
            finding = self._look(path)
        except VideoError as error:
            return Inspection(path, fault=str(error))
        except OSError as error:
            return Inspection(path, fault=f"it cannot be read ({error.strerror})")
        write_note(self._note(path, version), finding._asdict())
        return Inspection(path, finding, version)

    def _look(self, path: Path) -> Finding:
        started = time.perf_counter()
        _, height, width, _ = read_clip(path, num_frames=self.num_frames, stride=self.stride).shape
        pace = time.perf_counter() - started
        info = read_info(path)
        return Finding(sha256([path]), info.seconds, float(info.frames_per_second), width, height, pace)

    def recall(self, path: Path) -> Inspection | None:
        """What was noted of the file as it is now."""
        if self.notes is None or not path.is_file():
            return None
        version = file_version(path)
        finding = read_note(self._note(path, version), Finding)
        return None if finding is None else Inspection(path, finding, version)

    def _note(self, path: Path, version: FileVersion) -> Path | None:
        if self.notes is None:
            return None
        now = f"{path.resolve()}\n{version.size}\n{version.modified}\n{self.num_frames}\n{self.stride}"
        name = sha256_of_text(now)
        return self.notes / name[:2] / name
