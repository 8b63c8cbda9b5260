"""Encoded video to sampled uint8 frames, with PyAV."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.opening import Source, open_video
from vjepa_mlflow.video.sampling import Sampling, choose_frames
from vjepa_mlflow.video.timeline import Timeline, decode_beginning, decode_timeline, read_timeline

SEEK_FROM = 256
"""Below this frame index the start of a clip is found by counting frames, which is possible in any file and about as
fast: encoders set key frames up to 250 frames apart."""

KEYS_BEFORE = (1, 3)
"""Which key frame before a clip is sought, counted backwards: some containers only find one some way behind that."""


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
    if not 0 <= position <= 1:
        raise ValueError(f"position={position}: expected a number from 0 to 1")
    timeline = timeline or read_timeline(source)
    if not timeline.complete:
        timeline = decode_timeline(source, timeline)
    elif timeline.clear_from:
        timeline = decode_beginning(source, timeline)
    while True:
        wanted = choose_frames(timeline.seconds, sampling, position)
        try:
            frames = _read_frames(source, timeline, wanted, allocate)
            break
        except _MistimedError:
            timeline = decode_timeline(source, timeline)
        except _EndedError as end:
            # There are fewer frames than packets: the clip is placed again among those that were seen.
            if not end.frames:
                raise VideoError("no frame of it can be decoded") from None
            timeline = timeline.without_the_end(end.frames, broken_off=end.broken_off)
    if timeline.is_incomplete and timeline.num_frames < sampling.num_frames:
        raise VideoError(
            f"only {timeline.num_frames} of its {timeline.num_announced} frames can be decoded: expected at least "
            f"{sampling.num_frames}"
        )
    return Clip(frames, timeline)


class _MistimedError(Exception):
    """Decoded frames are others than the packets say."""


class _EndedError(Exception):
    """A video has ended before the last frame that was wanted, after so many frames; perhaps it was broken off."""

    def __init__(self, frames: int, *, broken_off: bool):
        super().__init__(frames)
        self.frames, self.broken_off = frames, broken_off


def _read_frames(source: Source, timeline: Timeline, wanted: np.ndarray, allocate: Allocate) -> np.ndarray:
    """The frames with some indices, ascending, as uint8 RGB of shape (indices, height, width, 3)."""
    if wanted[0] >= SEEK_FROM and timeline.is_seekable:
        for keys_before in KEYS_BEFORE:
            with suppress(_MistimedError, _EndedError, VideoError):  # counting is what decides
                sought = _sought(source, timeline, wanted, keys_before)
                return _take(source, sought, wanted, allocate, _turn_of_first(source))
    return _take(source, _counted(source, timeline), wanted, allocate)


def _counted(source: Source, timeline: Timeline) -> Iterator[tuple[int, VideoFrame]]:
    """All frames from the beginning, with their indices."""
    index, broken_off = -1, False
    try:
        with open_video(source) as opened:
            for index, frame in enumerate(opened.decode()):
                if timeline.timed and frame.pts != timeline.stamps[index]:
                    raise _MistimedError
                yield index, frame
    except VideoError:
        if not source.lenient:
            raise
        broken_off = True
    raise _EndedError(index + 1, broken_off=broken_off)


def _sought(
    source: Source, timeline: Timeline, wanted: np.ndarray, keys_before: int
) -> Iterator[tuple[int, VideoFrame]]:
    """The frames from a key frame before the wanted ones on, with their indices."""
    key_number = np.searchsorted(timeline.keys, timeline.stamps[wanted[0]], side="right") - keys_before
    if key_number < 0:
        raise _MistimedError
    key = timeline.keys[key_number]
    index, after = np.searchsorted(timeline.stamps, (key, key + 1)).tolist()
    if after - index > 1:  # two frames at one time
        raise _MistimedError
    with open_video(source) as opened:
        try:
            opened.container.seek(int(timeline.key_positions[key_number]), stream=opened.stream)
        except av.FFmpegError:
            raise _MistimedError from None
        for frame in opened.decode():
            # What comes from before the key frame may need frames that were not decoded.
            if frame.pts is not None and frame.pts < key:
                continue
            # A container's index may call a frame a key frame that is none.
            if frame.pts != timeline.stamps[index] or (frame.pts == key and not frame.key_frame):
                raise _MistimedError
            yield index, frame
            index += 1
    raise _EndedError(index, broken_off=False)


def _take(
    source: Source,
    frames: Iterator[tuple[int, VideoFrame]],
    wanted: np.ndarray,
    allocate: Allocate,
    turn: "_Turn | None" = None,
) -> np.ndarray:
    """Picks the wanted ones of some frames; all are turned as the video's first one is, with which they begin if
    nothing is said of it."""
    reformatter = VideoReformatter()  # one for all frames: making its tables costs more than converting a frame
    numbers = wanted.tolist()
    clip: np.ndarray | None = None
    filled = 0
    for index, frame in frames:
        turn = turn or _read_turn(frame)
        if index == numbers[filled]:
            image = _upright_rgb(frame, reformatter, turn, like=None if clip is None else clip[0])
            if clip is None:
                source.limits.check_shape(*image.shape[1::-1])
                clip = allocate((len(numbers), *image.shape))
            while filled < len(numbers) and index == numbers[filled]:  # a short video ends in copies of its last frame
                clip[filled] = image
                filled += 1
        if filled == len(numbers):
            break
    assert clip is not None  # the frames end in an error where the last one is not among them
    return clip


def _turn_of_first(source: Source) -> "_Turn":
    with open_video(source) as opened:
        return next((_read_turn(frame) for frame in opened.decode()), _Turn())


def _upright_rgb(
    frame: VideoFrame, reformatter: VideoReformatter, turn: "_Turn", *, like: np.ndarray | None
) -> np.ndarray:
    """Converts a frame to RGB, turned and mirrored, which PyAV does not do.

    A stream may change its frame size on the way (WebRTC recordings do): `like` is the first frame, whose size holds.
    """
    size = {}
    if like is not None:
        height, width = like.shape[1::-1] if turn.swaps_axes else like.shape[:2]
        size = {"width": width, "height": height}
    # One thread, since clips are converted side by side already.
    return turn.apply(reformatter.reformat(frame, format="rgb24", threads=1, **size).to_ndarray())


class _Turn(NamedTuple):
    """What brings a picture upright: first its axes are swapped, then its columns or rows are mirrored."""

    swaps_axes: bool = False
    mirrors_columns: bool = False
    mirrors_rows: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        if self.swaps_axes:
            image = image.swapaxes(0, 1)
        if self.mirrors_columns:
            image = image[:, ::-1]
        return image[::-1] if self.mirrors_rows else image


_QUARTERS = (_Turn(), _Turn(True, mirrors_rows=True), _Turn(False, True, True), _Turn(True, mirrors_columns=True))
"""None, one, two and three quarters to the left."""


def _read_turn(frame: VideoFrame) -> _Turn:
    """From the frame's display matrix (ISO/IEC 14496-12, section 6.2.2): x' = ax + cy and y' = bx + dy."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV refuses all of it where FFmpeg knows more kinds than it has names for, as of EXIF
        return _QUARTERS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return _Turn()
    a, b, _, c, d, *_ = np.frombuffer(matrix, dtype=np.int32).astype(float)  # type: ignore[call-overload]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _Turn(mirrors_columns=a < 0, mirrors_rows=d < 0)
    return _Turn(swaps_axes=True, mirrors_columns=c < 0, mirrors_rows=b < 0)
