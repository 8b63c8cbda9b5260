"""Several clips of a video in one pass over it, handed on frame by frame."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame

from vjepa_mlflow.runtime.streams import KEPT
from vjepa_mlflow.video.decode import sample_clip, whole_timeline
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.gpu_decoder import all_ways_to, is_for_gpu
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.picture import Colours, Kind, Painter, Turn, copy_planes, read_turn
from vjepa_mlflow.video.sampling import Sampling, choose_frames
from vjepa_mlflow.video.seeking import EndedError, MistimedError, Shown
from vjepa_mlflow.video.timeline import Timeline


class Placed(NamedTuple):
    """Which frames clips consist of, by the clips' positions. What came before of other clips, or of these, is void."""

    clips: dict[float, list[int]]


class Pictures(NamedTuple):
    """Some frames of the video.

    Attributes:
        indices: which.
        values: uint8: upright RGB of shape (frames, height, width, 3); or with `colours`, of shape
            (frames, decoded height * decoded width * 3 // 2), the planes as `split_planes` has them.
        height: of the frames as they were decoded, in pixels.
        width: likewise.
        colours: how planes become RGB; None for RGB.
        interleaved: see `split_planes`.
        turn: what then brings planes upright.
    """

    indices: list[int]
    values: np.ndarray
    height: int
    width: int
    colours: Colours | None = None
    interleaved: bool = False
    turn: Turn = Turn()


class Failed(NamedTuple):
    """A clip that cannot be read, and what is wrong with it."""

    position: float
    error: VideoError


class Declined(NamedTuple):
    """Why a GPU's decoder was tried on the video and not used."""

    reason: str


Part = Placed | Pictures | Failed | Declined


@dataclass(frozen=True)
class Pass:
    """Reads several clips of a video: for each clip the frames that `sample_clip` gives, or what is wrong.

    The frames are decoded in one pass, in the order in which they are shown, and handed on as many together as a
    process may always have memory for, or one by one. What that does not bring, as where a video ends before its
    packets do, is read clip by clip.

    Attributes:
        source: the video.
        sampling: of the clips.
        allocate: gives so many bytes of memory for the frames of a part.
        as_planes: whether frames are handed on as they were decoded, which is half as much, where it is known how they
            become RGB.
        gpu: the CUDA GPU whose decoder is used where that gives the same planes; None: none.
    """

    source: Source
    sampling: Sampling
    allocate: Callable[[int], np.ndarray]
    as_planes: bool = False
    gpu: int | None = None

    def read(self, positions: Sequence[float], timeline: Timeline | None = None) -> Iterator[Part]:
        """Yields the frames of clips, some at a time.

        Args:
            positions: of the clips.
            timeline: of the video, where it is known.
        """
        pending = dict.fromkeys(positions)
        with suppress(VideoError):  # told of each clip
            whole = whole_timeline(self.source, timeline)
            if not whole.is_incomplete:
                yield from self._together(whole, pending)
        for position in list(pending):
            yield from self._alone(position, timeline)

    def _together(self, timeline: Timeline, pending: dict[float, None]) -> Iterator[Part]:
        """Takes those clips away from the pending ones that it has brought."""
        clips = {position: choose_frames(timeline.seconds, self.sampling, position).tolist() for position in pending}
        numbers = sorted({index for clip in clips.values() for index in clip})
        gpu = self.gpu if self.as_planes else None
        by_gpu = gpu is not None and is_for_gpu(timeline)
        for frames in all_ways_to(self.source, timeline, numbers, gpu):
            yield Placed({position: clips[position] for position in pending})
            try:
                for pictures in self._gather(frames, {index for position in pending for index in clips[position]}):
                    yield pictures
                    for position in list(pending):
                        if clips[position][-1] <= pictures.indices[-1]:
                            del pending[position]
                return
            except _ChangedError:
                return
            except (MistimedError, EndedError, VideoError) as error:
                if by_gpu:
                    yield Declined(str(error) or "its frames are not those that its packets announce")
                by_gpu = False

    def _gather(self, frames: Shown, wanted: set[int]) -> Iterator[Pictures]:
        """The wanted ones of some frames, of which the first is the video's; all of its kind, turned as it is."""
        album: _Album | None = None
        turn: Turn | None = None
        last = max(wanted)
        try:
            for index, frame in frames:
                turn = turn or read_turn(frame)
                if index in wanted:
                    album = album or _Album(self, frame, turn)
                    album.add(index, frame)
                    if album.is_full or index == last:
                        yield album.take()
                if index == last:
                    return
        except (MistimedError, EndedError, VideoError):
            if album is not None and not album.is_empty:
                yield album.take()
            raise

    def _alone(self, position: float, timeline: Timeline | None) -> Iterator[Part]:
        try:
            frames = sample_clip(self.source, self.sampling, position, timeline).frames
        except VideoError as error:
            yield Failed(position, error)
            return
        count, height, width, _ = frames.shape
        yield Placed({position: list(range(count))})
        at_once = max(1, KEPT // frames[0].nbytes)
        for first in range(0, count, at_once):
            part = frames[first : first + at_once]
            values = self.allocate(part.nbytes).reshape(part.shape)
            values[:] = part
            yield Pictures(list(range(first, first + len(part))), values, height, width)


class _ChangedError(Exception):
    """A frame is of another kind than the ones before it."""


class _Album:
    """Frames of one kind, some of which are handed on together.

    Args:
        reader: whose frames they are.
        first: one of them.
        turn: what brings them upright.
    """

    def __init__(self, reader: Pass, first: VideoFrame, turn: Turn):
        self._allocate, self._kind, self._turn = reader.allocate, Kind.of(first), turn
        upright = (first.width, first.height) if turn.swaps_axes else (first.height, first.width)
        reader.source.limits.check_shape(*upright[::-1])
        self._colours = self._kind.colours() if reader.as_planes else None
        self._shape = (*upright, 3) if self._colours is None else (first.height * first.width * 3 // 2,)
        self._count = max(1, KEPT // math.prod(self._shape))
        self._values: np.ndarray | None = None
        self._indices: list[int] = []
        self._painter = Painter()

    @property
    def is_full(self) -> bool:
        return len(self._indices) == self._count

    @property
    def is_empty(self) -> bool:
        return not self._indices

    def add(self, index: int, frame: VideoFrame) -> None:
        if Kind.of(frame) != self._kind:
            raise _ChangedError
        if self._values is None:
            size = self._count * math.prod(self._shape)
            self._values = self._allocate(size).reshape(self._count, *self._shape)
        place = self._values[len(self._indices)]
        if self._colours is None:
            place[:] = self._painter.rgb(frame, self._turn)
        else:
            copy_planes(frame, place)
        self._indices.append(index)

    def take(self) -> Pictures:
        assert self._values is not None
        indices, values = self._indices, self._values[: len(self._indices)]
        self._indices, self._values = [], None
        height, width, *_ = self._kind
        if self._colours is None:
            return Pictures(indices, values, height, width)
        return Pictures(indices, values, height, width, self._colours, self._kind.interleaved, self._turn)
