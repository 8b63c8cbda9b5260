"""Frames by a GPU's own decoder, where it gives those that software gives."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from av.video.frame import VideoFrame

from vjepa_mlflow.runtime.workers import count_workers
from vjepa_mlflow.video.opening import Source, open_video
from vjepa_mlflow.video.picture import Kind, copy_planes, split_planes
from vjepa_mlflow.video.seeking import KEYS_BEFORE, MistimedError, Shown, sought, ways_to
from vjepa_mlflow.video.timeline import Timeline

Reader = TypeVar("Reader", bound=Any)

LEAST_PIXELS = 640 * 480
"""Of a frame: a GPU's decoder takes longer to be set up than to decode smaller ones."""


class GpuReaders(NamedTuple):
    """Processes that read videos with the decoder of a GPU.

    Attributes:
        gpu: number of a CUDA GPU.
        processes: how many.
    """

    gpu: int
    processes: int


def for_each_process(reader: Reader, gpu_readers: GpuReaders | None) -> list[Reader]:
    """What each of all processes reads with: those that decode themselves, one for each CPU, and then those of a GPU.

    Args:
        reader: a dataclass with an attribute `gpu`, the number of the CUDA GPU whose decoder it uses, or None.
        gpu_readers: beside the others; None: none.
    """
    readers = [replace(reader, gpu=None)] * count_workers()
    if gpu_readers is not None:
        readers += [replace(reader, gpu=gpu_readers.gpu)] * gpu_readers.processes
    return readers


def all_ways_to(source: Source, timeline: Timeline, wanted: Sequence[int], gpu: int | None) -> Iterator[Shown]:
    """What `ways_to` yields, and before that what a GPU's decoder gives, where there is one and the video is for it."""
    if gpu is not None and is_for_gpu(timeline):
        yield frames_by_gpu(source, timeline, wanted, gpu)
    yield from ways_to(source, timeline, wanted)


def is_for_gpu(timeline: Timeline) -> bool:
    """Whether a GPU's decoder, where there is one, is tried on a video."""
    return timeline.is_seekable and timeline.pixels >= LEAST_PIXELS


def frames_by_gpu(source: Source, timeline: Timeline, wanted: Sequence[int], gpu: int) -> Shown:
    """The wanted frames, which stay on the GPU, and the first one; see `ways_to`.

    Before them comes, with the index -1, the first one as software decodes it. The GPU's is to be the same, since not
    every GPU decodes every stream as software does; and it alone says how the video is turned, as its container does.

    Args:
        source: the video.
        timeline: of it, whose stamps tell the frames.
        wanted: indices of frames.
        gpu: number of a CUDA GPU.

    Raises:
        MistimedError: software is to decode this video. So does VideoError say.
    """
    with open_video(replace(source, is_known=True)) as by_software:
        first = next(by_software.decode([]), None)
    if first is None:
        raise MistimedError("no frame of it can be decoded")

    def check(frame: VideoFrame) -> None:
        if not _are_equal(first, frame):
            raise MistimedError("its first frame is not the one that software decodes")

    yield -1, first
    yield from sought(replace(source, gpu=gpu), timeline, wanted, KEYS_BEFORE[0], on_first=check)


def _are_equal(software: VideoFrame, other: VideoFrame) -> bool:
    kinds = Kind.of(software), Kind.of(other)
    if kinds[0][:2] != kinds[1][:2] or kinds[0].colours() is None or kinds[0].colours() != kinds[1].colours():
        return False
    height, width = kinds[0][:2]
    values = [np.empty(height * width * 3 // 2, np.uint8) for _ in kinds]
    for frame, of_frame in zip((software, other), values, strict=True):
        copy_planes(frame, of_frame)
    planes = [split_planes(one, height, width, kind.interleaved) for one, kind in zip(values, kinds, strict=True)]
    return all(np.array_equal(one, two) for one, two in zip(*planes, strict=True))
