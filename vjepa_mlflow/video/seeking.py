"""Some of a video's frames, by their indices, decoded with no more of the video than they need."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import av
from av.video.frame import VideoFrame

from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.opening import WHOLE, OpenVideo, Source, open_video
from vjepa_mlflow.video.timeline import Key, Timeline

SEEK_OVER = 16
"""Frames that are decoded rather than a key frame behind them sought, which takes about as long."""

KEYS_BEFORE = (1, 3)
"""Which key frame before a frame is sought, counted backwards: some containers only find one some way behind that."""

Shown = Iterator[tuple[int, VideoFrame]]
"""Frames with their indices, ascending."""


class MistimedError(Exception):
    """Decoded frames are others than the packets say."""


class EndedError(Exception):
    """A video has ended before the last frame that was wanted, after so many frames; perhaps it was broken off."""

    def __init__(self, frames: int, *, broken_off: bool):
        super().__init__(frames)
        self.frames, self.broken_off = frames, broken_off


def ways_to(source: Source, timeline: Timeline, wanted: Sequence[int]) -> Iterator[Shown]:
    """Yields ways to read frames, the fastest first; where one ends in an error, the next is tried.

    Each gives the video's first frame, the wanted ones, and perhaps others. Only what the last one says counts: it
    reads all frames from the beginning.

    Args:
        source: the video.
        timeline: of it.
        wanted: indices of frames.

    Raises:
        MistimedError: while they are read, decoded frames are others than the timeline says.
        EndedError: likewise, the video has ended before the last frame that was wanted.
        VideoError: likewise, it cannot be decoded.
    """
    if timeline.is_seekable:
        for keys_before in KEYS_BEFORE:
            yield sought(source, timeline, wanted, keys_before)
    yield _counted(source, timeline)


def _counted(source: Source, timeline: Timeline) -> Shown:
    """All frames from the beginning, with their indices."""
    index, broken_off = -1, False
    try:
        with open_video(source) as opened:
            for index, frame in enumerate(opened.decode()):
                if timeline.timed and frame.pts != timeline.stamps[index]:
                    raise MistimedError
                yield index, frame
    except VideoError:
        if not source.lenient:
            raise
        broken_off = True
    raise EndedError(index + 1, broken_off=broken_off)


def sought(
    source: Source,
    timeline: Timeline,
    wanted: Sequence[int],
    keys_before: int,
    *,
    on_first: Callable[[VideoFrame], None] = lambda _: None,
) -> Shown:
    """The first frame and the wanted ones, with their indices; of the others no more is decoded than they need.

    Args:
        source: the video.
        timeline: of it, whose stamps tell the frames.
        wanted: indices of frames.
        keys_before: one of `KEYS_BEFORE`.
        on_first: is given the first frame before anything else is decoded.
    """
    numbers = sorted({0, *wanted})
    stamps = frozenset(timeline.stamps[numbers].tolist())
    reached = -1
    with open_video(replace(source, is_known=True)) as opened:
        frames = _dated(opened.decode(stamps), timeline)
        for number in numbers:
            key = timeline.key_before(number, keys_before)
            if key is not None and key.at - reached > SEEK_OVER:
                _seek(opened, key)
                frames = _from_key(_dated(opened.decode(stamps, since=key.stamp), timeline), key)
            reached, frame = next((found for found in frames if found[0] >= number), (-1, None))
            if frame is None or reached != number:
                raise MistimedError
            if number == 0:
                on_first(frame)
            yield reached, frame


def _seek(opened: OpenVideo, key: Key) -> None:
    try:
        opened.seek(key.position)
    except av.FFmpegError:
        raise MistimedError from None


def _dated(frames: Iterable[VideoFrame], timeline: Timeline) -> Shown:
    """Frames with the indices that their timestamps say, ascending, the first ones without a gap."""
    before: int | None = None
    for count, frame in enumerate(frames):
        index = timeline.index_of(frame.pts)
        if index is None or (before is not None and not 0 < index - before <= (1 if count < WHOLE else index)):
            raise MistimedError
        before = index
        yield index, frame


def _from_key(frames: Shown, key: Key) -> Shown:
    """The same frames, which must begin at a key frame: a container's index may call a frame so that is none."""
    for index, frame in frames:
        if index != key.at or (frame.pts == key.stamp and not frame.key_frame):
            raise MistimedError
        yield index, frame
        break
    yield from frames
