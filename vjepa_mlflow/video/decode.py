"""Encoded video to sampled uint8 frames, with PyAV."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.gpu_decoder import all_ways_to
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.picture import Kind, Painter, Turn, read_turn
from vjepa_mlflow.video.sampling import Sampling, choose_frames
from vjepa_mlflow.video.seeking import EndedError, MistimedError, Shown
from vjepa_mlflow.video.timeline import Timeline, decode_beginning, decode_timeline, read_timeline

Taken = TypeVar("Taken")

Allocate = Callable[[tuple[int, ...]], np.ndarray]
"""Makes a uint8 array of a shape, with any values."""


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
    return np.empty(shape, np.uint8)


class Clip(NamedTuple):
    """A clip, and the frames that it was taken from.

    Attributes:
        frames: uint8 RGB, upright, of shape (num_frames, height, width, 3).
        timeline: the frames that the video has.
    """

    frames: np.ndarray
    timeline: Timeline

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of its frames, in pixels."""
        return self.frames.shape[1], self.frames.shape[2]


class SeenClip(NamedTuple):
    """What is known of a clip that was decoded.

    Attributes:
        shape: height and width of its upright frames, in pixels.
        timeline: the frames that the video has.
    """

    shape: tuple[int, int]
    timeline: Timeline


def read_clip(
    video: str | os.PathLike[str] | bytes,
    *,
    num_frames: int,
    stride: int = 4,
    frames_per_second: float = 0.0,
    position: float = 0.5,
) -> np.ndarray:
    """Decodes one clip, and of the video no more than the clip needs.

    Which frames that are is a function of the times at which a player shows frames, whatever the container and however
    they are read: the frames that are shown are put in the order of their presentation times, and taken by index
    (`stride`) or by time (`frames_per_second`, see `sampling.choose_frames`). What a file hides, as by an edit list, is
    not seen, and frames are turned and mirrored as the file says of its first one, to the nearest quarter of a turn.

    Args:
        video: a file or the content of one.
        num_frames: frames of the clip.
        stride: frames of the video from one sampled frame to the next; shrinks where the video is too short for it.
        frames_per_second: sample so many frames of a second instead; 0: by `stride`.
        position: where the clip lies in the video, from 0 (its start) to 1 (its end).

    Returns:
        uint8 RGB frames, upright, of shape (num_frames, height, width, 3). A video with fewer frames than that ends
        in copies of its last one.

    Raises:
        VideoError: it is not a video, or the clip cannot be decoded in full.
        ValueError: another value is out of its range.
    """
    source = Source(Path(video) if isinstance(video, str | os.PathLike) else bytes(video))
    return sample_clip(source, Sampling(num_frames, stride, frames_per_second), position).frames


def sample_clip(
    source: Source,
    sampling: Sampling,
    position: float,
    timeline: Timeline | None = None,
    *,
    allocate: Allocate = _allocate,
) -> Clip:
    """Like `read_clip`. A lenient source's clip is placed among the frames that can be decoded.

    Args:
        source: the video.
        sampling: of the clip.
        position: of the clip.
        timeline: of the video, where it is known.
        allocate: makes the array of the clip's frames; it may be called again, where the first one was too early.

    Raises:
        VideoError: the clip cannot be decoded, or the video is beyond its limits.
        ValueError: there is no such position.
    """

    def take(frames: Shown, wanted: list[int]) -> np.ndarray:
        return _take(source, frames, wanted, allocate)

    return Clip(*_sample(source, sampling, position, timeline, take))


def look_at_clip(source: Source, sampling: Sampling, position: float, *, gpu: int | None = None) -> SeenClip:
    """Decodes a clip as `sample_clip` does, and keeps nothing of it.

    Args:
        source: the video.
        sampling: of the clip.
        position: of the clip.
        gpu: number of the CUDA GPU whose decoder is used where that gives the same frames; None: none.

    Raises:
        VideoError: as `sample_clip` does.
    """

    def take(frames: Shown, wanted: list[int]) -> tuple[int, int]:
        return _look_at(source, frames, wanted)

    return SeenClip(*_sample(source, sampling, position, None, take, gpu=gpu))


def _sample(
    source: Source,
    sampling: Sampling,
    position: float,
    timeline: Timeline | None,
    take: Callable[[Shown, list[int]], Taken],
    *,
    gpu: int | None = None,
) -> tuple[Taken, Timeline]:
    """What is taken of a clip's frames, whose indices ascend, and the video's timeline."""
    if not 0 <= position <= 1:
        raise ValueError(f"position={position}: expected a number from 0 to 1")
    timeline = whole_timeline(source, timeline)
    while True:
        wanted = choose_frames(timeline.seconds, sampling, position).tolist()
        try:
            result = _take_by_some_way(all_ways_to(source, timeline, wanted, gpu), wanted, take)
            break
        except MistimedError:
            timeline = decode_timeline(source, timeline)
        except EndedError as end:
            # There are fewer frames than packets: the clip is placed again among those that were seen.
            if not end.frames:
                raise VideoError("no frame of it can be decoded") from None
            timeline = timeline.without_the_end(end.frames, broken_off=end.broken_off)
    if timeline.is_incomplete and timeline.num_frames < sampling.num_frames:
        raise VideoError(
            f"only {timeline.num_frames} of its {timeline.num_announced} frames can be decoded: expected at least "
            f"{sampling.num_frames}"
        )
    return result, timeline


def whole_timeline(source: Source, timeline: Timeline | None) -> Timeline:
    """What is known of the timeline, or else read, with what its packets do not tell."""
    timeline = timeline or read_timeline(source)
    if not timeline.complete:
        return decode_timeline(source, timeline)
    return decode_beginning(source, timeline) if timeline.clear_from else timeline


def _take_by_some_way(ways: Iterable[Shown], wanted: list[int], take: Callable[[Shown, list[int]], Taken]) -> Taken:
    *faster, surest = ways
    for frames in faster:
        with suppress(MistimedError, EndedError, VideoError):
            return take(frames, wanted)
    return take(surest, wanted)


def _take(source: Source, frames: Shown, wanted: list[int], allocate: Allocate) -> np.ndarray:
    """The wanted ones of some frames, of which the first is the video's; all are turned as that one is.

    Returns:
        uint8 RGB of shape (wanted, height, width, 3).
    """
    painter = Painter()
    turn: Turn | None = None
    clip: np.ndarray | None = None
    filled = 0
    for index, frame in frames:
        turn = turn or read_turn(frame)
        if index == wanted[filled]:
            image = painter.rgb(frame, turn, None if clip is None else clip.shape[1:3])
            if clip is None:
                source.limits.check_shape(*image.shape[1::-1])
                clip = allocate((len(wanted), *image.shape))
            while filled < len(wanted) and index == wanted[filled]:  # a short video ends in copies of its last frame
                clip[filled] = image
                filled += 1
        if filled == len(wanted):
            break
    assert clip is not None  # the frames end in an error where the last one is not among them
    return clip


def _look_at(source: Source, frames: Shown, wanted: list[int]) -> tuple[int, int]:
    """Height and width of what `_take` would return. One frame of each kind is converted, which may be impossible."""
    painter, kinds = Painter(), set[Kind]()
    turn: Turn | None = None
    shape: tuple[int, int] | None = None
    for index, frame in frames:
        turn = turn or read_turn(frame)
        if index in wanted and Kind.of(frame) not in kinds:
            kinds.add(Kind.of(frame))
            height, width, _ = painter.rgb(frame, turn, shape).shape
            source.limits.check_shape(width, height)
            shape = height, width
        if index == wanted[-1]:
            break
    assert shape is not None  # the frames end in an error where the last one is not among them
    return shape
