"""Encoded video to sampled uint8 frames, with PyAV."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vjepa_mlflow.video.container import open_container
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.limits import Upload
from vjepa_mlflow.video.sampling import Stretch, choose_stretch
from vjepa_mlflow.video.uploads import check_length, check_shape, open_upload, prepare_stream

VideoSource = Path | bytes | Upload
"""A file, the content of one, or what a stranger sent."""

SEEK_FROM = 256
"""Below this frame index the start of a clip is found by counting frames, which is exact in any file and about as
fast: encoders set key frames up to 250 frames apart."""


# Since version 17 PyAV converts each frame in several threads; clips are converted side by side already.
_ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


HEADERS_ERR_BY = 2
"""Frames that headers promise and that are not there, in most AVI files without anything being wrong."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says. Headers err: `num_frames` is an estimate, often one or two too high.

    Attributes:
        num_frames: frames of the video stream, at least 1.
        frames_per_second: their average rate.
        start: presentation time of the first frame, in seconds.
    """

    num_frames: int
    frames_per_second: Fraction
    start: Fraction

    @property
    def seconds(self) -> float:
        """How long the video stream lasts."""
        return float(self.num_frames / self.frames_per_second)


def read_clip(source: VideoSource, *, num_frames: int, stride: int, position: float = 0.5) -> np.ndarray:
    """Decodes one clip, and of the video no more than the clip needs.

    Args:
        source: a file or the content of one.
        num_frames: frames of the clip.
        stride: frames from one sampled frame to the next; shrinks where the video is too short for it.
        position: where the clip lies in the video, from 0 (its start) to 1 (its end).

    Returns:
        uint8 RGB frames, upright, of shape (num_frames, height, width, 3). A video with fewer frames than that ends
        in copies of its last one.

    Raises:
        VideoError: the source is not a video, or the clip cannot be decoded in full.
    """
    return _read_clip(source, read_info(source).num_frames, num_frames=num_frames, stride=stride, position=position)[0]


class UploadedClip(NamedTuple):
    """A clip of an upload.

    Attributes:
        clip: uint8 RGB frames, upright, of shape (num_frames, height, width, 3).
        frames: of the video that were found.
        promised_frames: that its header promised.
    """

    clip: np.ndarray
    frames: int
    promised_frames: int

    @property
    def incomplete(self) -> bool:
        """Whether so many frames are missing that the video must be cut off or damaged."""
        missing = self.promised_frames - self.frames
        return missing > max(HEADERS_ERR_BY, self.promised_frames // 20)


def read_upload(upload: Upload, info: VideoInfo, *, num_frames: int, stride: int, position: float) -> UploadedClip:
    """Reads a clip of a video that may be cut off or damaged: it is placed among the frames that can be decoded.

    Args:
        upload: the video.
        info: what its header says.
        num_frames: as the others, see `read_clip`.
        stride: frames from one sampled frame to the next.
        position: of the clip.

    Raises:
        VideoError: it is beyond its limits, or too little of it can be decoded for a clip.
    """
    promised = info.num_frames
    clip, found = _read_clip(upload, promised, num_frames=num_frames, stride=stride, position=position)
    check_shape(clip.shape, upload.limits)
    read = UploadedClip(clip, found, promised)
    if read.incomplete and found < num_frames:
        raise VideoError(f"only {found} of its {promised} frames can be decoded: expected at least {num_frames}")
    return read


def _read_clip(
    source: VideoSource, known_frames: int, *, num_frames: int, stride: int, position: float
) -> tuple[np.ndarray, int]:
    """Returns a clip, and how many of the known frames there are."""
    while True:
        stretch = choose_stretch(known_frames, num_frames, stride, position)
        frames, decoded = _read_stretch(source, stretch)
        if len(frames) == stretch.count:
            break
        # The header promised more frames than there are: place the clip again among those that were seen.
        known_frames = min(known_frames - 1, stretch.start + decoded)
        if known_frames < 1:
            raise VideoError("no frame of it can be decoded")
    return np.stack(frames + [frames[-1]] * (num_frames - len(frames))), known_frames


def read_info(source: VideoSource) -> VideoInfo:
    """Reads a video's header.

    Raises:
        VideoError: the source is not a video.
    """
    with _open(source) as (container, stream):
        duration = _duration(container, stream)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        if stream.frames and duration:
            # average_rate is a guess from the first packets; the frame count and the duration are the file's own.
            rate = stream.frames / duration
        num_frames = stream.frames or round((duration or 0) * rate) or _count_packets(container, stream)
        if num_frames < 1:
            raise VideoError("it holds no video frames")
        info = VideoInfo(
            num_frames=num_frames,
            frames_per_second=rate,
            start=_seconds(stream.start_time, stream) or Fraction(0),
        )
    if isinstance(source, Upload):
        check_length(info.num_frames, info.seconds, source.limits)
    return info


@contextmanager
def _open(source: VideoSource) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens the best video stream; every FFmpeg error inside the block leaves it as a VideoError."""
    if isinstance(source, Path) and not source.is_file():
        raise VideoError("there is no such file")
    if _is_empty(source):
        raise VideoError("it is empty")
    try:
        with _open_container(source) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream):
                raise VideoError("it has no video stream")
            # Clips are decoded side by side; threads inside a decoder would only compete with that.
            stream.thread_count = 1
            if isinstance(source, Upload):
                prepare_stream(stream, source.limits)
            yield container, stream
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"it cannot be decoded ({getattr(error, 'strerror', None) or error})") from error


def _is_empty(source: VideoSource) -> bool:
    if isinstance(source, Upload):
        return source.file.seek(0, SEEK_END) == 0
    return not (source.stat().st_size if isinstance(source, Path) else source)


def _open_container(source: VideoSource) -> InputContainer:
    if isinstance(source, Upload):
        return open_upload(source)
    return open_container(BytesIO(source) if isinstance(source, bytes) else str(source))


def _seconds(timestamp: int | None, stream: VideoStream) -> Fraction | None:
    return None if timestamp is None or stream.time_base is None else timestamp * stream.time_base


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if stream.duration:
        return _seconds(stream.duration, stream)
    return Fraction(container.duration, av.time_base) if container.duration else None


def _count_packets(container: InputContainer, stream: VideoStream) -> int:
    return sum(1 for packet in container.demux(stream) if packet.size)


def _read_stretch(source: VideoSource, stretch: Stretch) -> tuple[list[np.ndarray], int]:
    """Returns the frames of a stretch as RGB, and how many frames were decoded from its start on."""
    if stretch.start >= SEEK_FROM:
        by_seeking = _read_by_seeking(source, stretch)
        if by_seeking is not None:
            return by_seeking
    with _open(source) as (container, stream):
        return _take(_frames(source, container, stream), stretch, skip=stretch.start)


def _read_by_seeking(source: VideoSource, stretch: Stretch) -> tuple[list[np.ndarray], int] | None:
    """Like `_read_stretch`, from the key frame before the stretch; None where the file does not allow it."""
    info = read_info(source)
    target = info.start + stretch.start / info.frames_per_second
    earliest = target - 1 / (2 * info.frames_per_second)
    with _open(source) as (container, stream):
        if stream.time_base is None:
            return None
        try:
            container.seek(int(target / stream.time_base), stream=stream)
        except av.FFmpegError:
            return None
        frames = _frames(source, container, stream)
        first = next(frames, None)
        if first is None or first.pts is None or _time(first) > target + 1 / info.frames_per_second:
            return None
        return _take(_from_time(first, frames, earliest), stretch, skip=0)


def _frames(source: VideoSource, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decodes frames. An upload ends where it cannot be decoded any further; of any other video that is an error."""
    try:
        yield from container.decode(stream)
    except av.FFmpegError as error:
        if not isinstance(source, Upload) or isinstance(error, MemoryError):
            raise


def _time(frame: VideoFrame) -> Fraction:
    return Fraction(0) if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base


def _from_time(first: VideoFrame, others: Iterator[VideoFrame], earliest: Fraction) -> Iterator[VideoFrame]:
    if _time(first) >= earliest:
        yield first
    for frame in others:
        if _time(frame) >= earliest:
            yield frame


def _take(frames: Iterator[VideoFrame], stretch: Stretch, *, skip: int) -> tuple[list[np.ndarray], int]:
    """Takes every `stride`-th frame after the first `skip`, until the stretch is complete or the video ends."""
    reformatter = VideoReformatter()  # one for all frames: making its tables costs more than converting a frame
    taken: list[np.ndarray] = []
    decoded = 0
    for index, frame in enumerate(frames):
        if index < skip:
            continue
        if decoded % stretch.stride == 0:
            taken.append(_upright_rgb(frame, reformatter, like=taken[0] if taken else None))
        decoded += 1
        if len(taken) == stretch.count:
            break
    return taken, decoded


def _upright_rgb(frame: VideoFrame, reformatter: VideoReformatter, *, like: np.ndarray | None) -> np.ndarray:
    """Converts a frame to RGB and applies the rotation that PyAV only reports.

    A stream may change its frame size on the way (WebRTC recordings do): `like` is the first frame, whose size holds.
    """
    quarter_turns = round(frame.rotation / 90) % 4
    size = {}
    if like is not None:
        height, width = like.shape[:2]
        size = {"width": width, "height": height} if quarter_turns % 2 == 0 else {"width": height, "height": width}
    return np.rot90(reformatter.reformat(frame, format="rgb24", **size, **_ONE_THREAD).to_ndarray(), k=quarter_turns)
