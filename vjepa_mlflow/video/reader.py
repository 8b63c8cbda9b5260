"""Clips of many files, each file read once, in worker processes, which do without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from vjepa_mlflow.runtime.streams import Allocate, Pin, Stream, no_pin
from vjepa_mlflow.video.cached import FileVersion, cached_timeline, check_content, file_version
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.gpu_decoder import GpuReaders, for_each_process
from vjepa_mlflow.video.one_pass import Failed, Part, Pass, Pictures
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.sampling import Sampling

NICE = 5
"""How much a process that decodes by itself gives way, see `nice(2)`."""

Finished = TypeVar("Finished")


class ClipsRequest(NamedTuple):
    """Clips of a file, at positions from 0 (its start) to 1 (its end).

    Where the file has not the version any more that it had, its content must still have the digest.
    """

    path: Path
    positions: tuple[float, ...]
    version: FileVersion | None = None
    digest: str = ""


@dataclass(frozen=True)
class ClipReader:
    """Reads clips in worker processes, ahead of whoever takes them.

    Attributes:
        sampling: of the clips.
        cache_dir: the folder in which `inspect_videos` cached timelines; None: nowhere.
        as_planes: see `Pass`.
        gpu: likewise, for what one process does.
    """

    sampling: Sampling
    cache_dir: Path | None = None
    as_planes: bool = False
    gpu: int | None = None

    def read(
        self,
        requests: Iterable[ClipsRequest],
        *,
        finish: Callable[[ClipsRequest, Part], Finished],
        size: Callable[[Finished], int],
        pin: Pin = no_pin,
        gpu_readers: GpuReaders | None = None,
    ) -> Stream[ClipsRequest, Finished]:
        """The parts of all files, see `Pass`, and what `finish` makes of each in a thread; see `Stream`.

        Some are read by the decoder of a GPU where there are such readers.
        """
        work = [reader.work for reader in for_each_process(self, gpu_readers)]
        return Stream(work, requests, finish=finish, size=size, pin=pin)

    def work(self, request: ClipsRequest, allocate: Allocate) -> Iterator[Part]:
        """What a process does."""
        if self.gpu is None:
            _give_way()
        timeline = cached_timeline(self.cache_dir, request.path, request.version)
        reader = Pass(Source(request.path), self.sampling, allocate, as_planes=self.as_planes, gpu=self.gpu)
        checked = request.version
        for part in reader.read(request.positions, timeline):
            if isinstance(part, Pictures) and checked is not None:
                try:
                    checked = _check_version(request, checked)
                except VideoError as error:
                    yield from (Failed(position, error) for position in request.positions)
                    return
            yield part


def _give_way() -> None:
    """Lets those go first that take what is read, and those that a GPU decodes for, which do more in the same time."""
    if not os.nice(0):
        os.nice(NICE)


def _check_version(request: ClipsRequest, checked: FileVersion) -> FileVersion:
    """Refuses a file that has changed since; what tells that is looked at first, since a digest takes long.

    Args:
        request: of the file.
        checked: a version that has the digest.

    Returns:
        The version that the file has now.
    """
    try:
        now = file_version(request.path)
    except OSError as error:
        raise VideoError(f"it cannot be read ({error.strerror})") from error
    if now != checked:
        check_content(request.path, request.digest)
    return now
