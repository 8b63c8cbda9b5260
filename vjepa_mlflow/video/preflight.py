"""A look at every video before anything depends on it."""

import os
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vjepa_mlflow.files.cached import cache_values, cached_values
from vjepa_mlflow.files.digest import sha256
from vjepa_mlflow.files.temporary import sweep
from vjepa_mlflow.runtime.iteration import progress
from vjepa_mlflow.runtime.ranks import Share
from vjepa_mlflow.runtime.streams import Allocate, Stream
from vjepa_mlflow.runtime.workers import complete, worker_processes
from vjepa_mlflow.video.cached import FileVersion, cache_path, cache_timeline, forget, version_of
from vjepa_mlflow.video.decode import Clip, SeenClip, look_at_clip, sample_clip
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.gpu_decoder import GpuReaders, for_each_process
from vjepa_mlflow.video.limits import Limits
from vjepa_mlflow.video.opening import Source, open_video
from vjepa_mlflow.video.properties import Measure, VideoFile
from vjepa_mlflow.video.sampling import Sampling
from vjepa_mlflow.video.timeline import Timeline, read_timeline


class Identity(NamedTuple):
    """What a file is: the SHA-256 of its content, hexadecimal, and its seconds."""

    digest: str
    seconds: float


def identify_videos(paths: Sequence[Path]) -> list[Identity | VideoError]:
    """Identifies several files at once, in their order; of one that cannot be read, says what is wrong with it."""
    return complete([None] * len(paths), paths, _identify, description="Reading videos")


def _identify(path: Path) -> Identity | VideoError:
    try:
        return Identity(sha256([path]), read_timeline(Source(path)).duration)
    except VideoError as error:
        return error
    except OSError as error:
        return VideoError(f"it cannot be read ({error.strerror})")


class Finding(NamedTuple):
    """What is cached of a good file.

    Attributes:
        digest: SHA-256 of its content, hexadecimal.
        seconds: how long it lasts.
        frames_per_second: on average.
        width: of the upright frames, in pixels.
        height: likewise.
        pace: seconds that it took to read its clip.
        refusal: why a server with its default limits would refuse it; empty if it would not.
        changed: when anything of the file was last changed (`st_ctime`), in nanoseconds: who replaces a file can give
            it the size and the modification time of the one before, but not this.
    """

    digest: str
    seconds: float
    frames_per_second: float
    width: int
    height: int
    pace: float
    refusal: str
    changed: int


@dataclass(frozen=True)
class Inspection:
    """What the preflight found.

    Attributes:
        path: the file.
        finding: what it is; None for one that cannot be used.
        version: of the file that was looked at.
        fault: what is wrong with it; empty for one that can be used.
        replaced: whether another content had been cached of a file of this name, size and modification time.
    """

    path: Path
    finding: Finding | None = None
    version: FileVersion | None = None
    fault: str = ""
    replaced: bool = False


def inspect_videos(
    paths: Sequence[Path],
    sampling: Sampling,
    *,
    cache_dir: Path | None = None,
    share: Share | None = None,
    reread: bool = False,
    measured: Collection[Path] = (),
    properties: Path | None = None,
    gpu_readers: GpuReaders | None = None,
) -> list[Inspection]:
    """Opens every file, decodes its centred clip and digests its content, several files at once.

    Args:
        paths: the files.
        sampling: of the clip.
        cache_dir: a folder that remembers what was found of good files, which are then not opened again until their
            size or modification time changes, or anything of them is changed; None remembers nothing.
        share: the files to begin with, where other processes begin with others and cache what they find.
        reread: opens every file, whatever is cached of it.
        measured: the files whose properties will be asked for. Of one that is opened the same clip is measured, too.
        properties: the folder in which `measure_videos` finds that.
        gpu_readers: processes that decode with a GPU, beside those that do it themselves; None: none.
    """
    if cache_dir is not None:
        sweep(cache_dir)
    inspections: dict[int, Inspection] = {}

    def not_cached() -> Iterator[_Task]:
        order = (share or Share()).first(len(paths))
        for index in progress(order, total=len(paths), description="Checking videos", unit="video"):
            cached = None if reread else inspect.cached(paths[index])
            if cached is None:
                yield _Task(index, paths[index], paths[index] in asked)
            else:
                inspections[index] = cached

    asked = frozenset(measured)
    inspect = _Inspect(sampling, cache_dir, reread, properties)
    with worker_processes():
        work = [one.work for one in for_each_process(inspect, gpu_readers)]
        stream = Stream(work, not_cached(), finish=lambda task, inspection: (task.place, inspection), size=lambda _: 0)
        inspections.update(iter(stream.take, None))
        stream.close()
    return [inspections[index] for index in range(len(paths))]


class _Task(NamedTuple):
    """A file to be opened, its place among all, and whether it is to be measured."""

    place: int
    path: Path
    is_measured: bool


@dataclass(frozen=True)
class _Inspect:
    sampling: Sampling
    cache_dir: Path | None
    reread: bool
    properties: Path | None = None
    gpu: int | None = None

    def work(self, task: _Task, _: Allocate) -> Iterator[Inspection]:
        """What a process does."""
        yield self(task.path, is_measured=task.is_measured)

    def __call__(self, path: Path, *, is_measured: bool = False) -> Inspection:
        try:
            status = path.stat()  # taken first: what changes while it is read is read again the next time
            version = version_of(status)
            entry = self._entry(path, version)
            before = cached_values(entry, Finding)
            finding, clip = self._look(path, status, keeps_clip=is_measured)
            if isinstance(clip, Clip) and path.stat().st_ctime_ns == status.st_ctime_ns:
                Measure(self.sampling, self.properties).cache(VideoFile(path, finding.digest), clip)
        except VideoError as error:
            forget(self.cache_dir, path, version)
            return Inspection(path, fault=str(error), replaced=before is not None)
        except OSError as error:
            return Inspection(path, fault=f"it cannot be read ({error.strerror})")
        replaced = before is not None and before.digest != finding.digest
        if replaced or self.reread:
            forget(self.cache_dir, path, version)
        cache_timeline(self.cache_dir, path, version, clip.timeline)
        cache_values(entry, finding._asdict(), within=self.cache_dir)
        return Inspection(path, finding, version, replaced=replaced)

    def _look(self, path: Path, status: os.stat_result, *, keeps_clip: bool) -> tuple[Finding, Clip | SeenClip]:
        """What the file is, and its clip, with its frames where that is to be kept."""
        started = time.perf_counter()
        clip: Clip | SeenClip
        if keeps_clip:
            clip = sample_clip(Source(path), self.sampling, 0.5)
        else:
            clip = look_at_clip(Source(path), self.sampling, 0.5, gpu=self.gpu)
        timeline, (height, width) = clip.timeline, clip.shape
        pace = time.perf_counter() - started
        if timeline.is_incomplete:  # and a clip from another place might not be there
            there, announced = timeline.num_frames, timeline.num_announced
            raise VideoError(f"cut off or damaged: {there} of its {announced} frames are there")
        finding = Finding(
            digest=sha256([path]),
            seconds=timeline.duration,
            frames_per_second=timeline.frames_per_second,
            width=width,
            height=height,
            pace=pace,
            refusal=_refusal(path, timeline, width, height),
            changed=status.st_ctime_ns,
        )
        return finding, clip

    def cached(self, path: Path) -> Inspection | None:
        """What was cached of the file as it is now."""
        if self.cache_dir is None:
            return None
        try:
            status = path.stat()
        except OSError:
            return None
        version = version_of(status)
        finding = cached_values(self._entry(path, version), Finding)
        if finding is None or finding.changed != status.st_ctime_ns or not stat.S_ISREG(status.st_mode):
            return None
        return Inspection(path, finding, version)

    def _entry(self, path: Path, version: FileVersion) -> Path | None:
        return cache_path(self.cache_dir, path, version, self.sampling.name)


def _refusal(path: Path, timeline: Timeline, width: int, height: int) -> str:
    limits = Limits()
    try:
        with open_video(Source(path, limits)):
            limits.check_frames(timeline.num_frames)
            limits.check_seconds(timeline.duration)
            limits.check_pixels(width, height)
            limits.check_shape(width, height)
    except VideoError as error:
        return str(error)
    return ""
