"""Clips of videos from strangers, decoded in processes that can do no harm."""

import fcntl
import json
import os
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vjepa_mlflow.files.reading import open_regular
from vjepa_mlflow.runtime.asking import Asker, Job
from vjepa_mlflow.runtime.channel import map_memory, memory_file, write
from vjepa_mlflow.runtime.crew import Crew
from vjepa_mlflow.runtime.processes import ForkServer
from vjepa_mlflow.video import decoder_process
from vjepa_mlflow.video.decode import Allocate
from vjepa_mlflow.video.decoder_process import Answer, Request
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.limits import Limits
from vjepa_mlflow.video.sampling import Sampling

PAUSED, HEAVY = 2, 1.0
"""Processes that are paused, each of which may hold the frames of a large clip; and seconds: see `Crew`."""

PRELOADED = ("vjepa_mlflow.video.whole_av", decoder_process.__name__)


class Reading(NamedTuple):
    """A clip, uint8 RGB of shape (num_frames, height, width, 3), and what is wrong with its video; empty: nothing."""

    clip: np.ndarray
    warning: str


class Descriptor:
    """One of this process's, which is closed once nobody holds this object."""

    def __init__(self, number: int):
        self.number = number
        weakref.finalize(self, os.close, number)


class Content(NamedTuple):
    """The content of a stranger's file: so many bytes of a file in memory, from an offset on."""

    memory: Descriptor
    offset: int
    size: int


class Decoders:
    """Reads clips in processes of their own, for any number of askers in fair turns, each process one clip at a time.

    A process that dies of a video, or takes too long over it, is replaced by another.

    Args:
        count: how many processes work at once.
        sampling: of the clips.
        limits: within which the contents of strangers' files are read.
        allocate: makes the arrays that clips are copied to; by default they stay where they were written.
    """

    def __init__(self, count: int, sampling: Sampling, limits: Limits, *, allocate: Allocate | None = None):
        self._sampling = sampling
        self._allocate = allocate
        self._limits = limits
        self._own_limits = limits.for_own_files()
        # Address space is limited, and a heap for each thread would take much of it.
        server = ForkServer(*PRELOADED, MALLOC_ARENA_MAX="1")
        self._crew = Crew(server, decoder_process.work, count=count, places=count + PAUSED, heavy=HEAVY)
        self.serving, self.let_go, self.refuse = self._crew.serving, self._crew.let_go, self._crew.refuse
        self.close, self.abandon = self._crew.close, self._crew.abandon

    def submit(
        self, video: Path | bytes | Content, positions: Sequence[float], asker: Asker
    ) -> "list[Future[Reading]]":
        """Has clips read when it is the asker's turn.

        Args:
            video: a file of one's own, or the content of a stranger's.
            positions: of the clips, from 0 (the video's start) to 1 (its end).
            asker: holds the clips until it lets them go.

        Returns:
            A future for each clip, of what is read, or of a VideoError: it is no video that can be read, or it is
            beyond the limits.
        """
        limits = self._own_limits if isinstance(video, Path) else self._limits
        try:
            content = _open(video, limits)
        except VideoError as error:
            return [_failed(error) for _ in positions]
        requests = (Request(self._sampling, position, limits, content.offset, content.size) for position in positions)
        return [self._crew.submit(_Clip(request, content, asker, self._allocate)) for request in requests]

    def read(self, video: Path | bytes, position: float) -> Reading:
        """Reads a clip; waits for its turn.

        Raises:
            VideoError: see `submit`.
        """
        asker = Asker(may_be_refused=False)
        with self.serving(asker):
            return self.submit(video, [position], asker)[0].result()

    @property
    def are_working(self) -> bool:
        """Whether any clip is read just now."""
        return self._crew.is_working


def _open(video: Path | bytes | Content, limits: Limits) -> Content:
    if isinstance(video, Content):
        limits.check_size(video.size)
        return video
    if isinstance(video, bytes):
        limits.check_size(len(video))
        with memory_file() as descriptor:
            write(descriptor, [video])
            return Content(Descriptor(os.dup(descriptor)), 0, len(video))
    try:
        with open_regular(video) as file:
            return Content(Descriptor(os.dup(file.fileno())), 0, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise VideoError(f"it cannot be opened ({error.strerror})") from error


def _failed(error: VideoError) -> "Future[Reading]":
    future: Future[Reading] = Future()
    future.set_exception(error)
    return future


class _Clip(Job[Reading]):
    """A clip to be read."""

    def __init__(self, request: Request, content: Content, asker: Asker, allocate: Allocate | None):
        super().__init__(asker, limit=request.limits.max_decode_seconds)
        self._request, self._allocate = request, allocate
        self._content: Content | None = content
        self._frames: Descriptor | None = None

    def begin(self) -> tuple[bytes, Sequence[int]]:
        self._frames = Descriptor(os.memfd_create("vjepa-mlflow", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        assert self._content is not None
        return decoder_process.encode(self._request), (self._content.memory.number, self._frames.number)

    def finish(self, answer: bytes) -> Reading:
        parsed = Answer(**json.loads(answer))
        if parsed.error:
            raise VideoError(parsed.error)
        assert self._frames is not None
        fcntl.fcntl(self._frames.number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)  # or reading it may end this process
        if self._allocate is None:
            clip = _map(self._frames.number, parsed.shape)
        else:
            clip = _copy(self._frames.number, self._allocate(parsed.shape))
        self.asker.held += clip.nbytes
        return Reading(clip, parsed.warning)

    def broken(self, *, late: bool) -> VideoError:
        if late:
            return VideoError(f"decoding it takes too long: expected at most {self.limit:g} s (max_decode_seconds)")
        return VideoError("it broke the decoder")

    def end(self) -> None:
        self._content = self._frames = None


def _copy(descriptor: int, clip: np.ndarray) -> np.ndarray:
    """Reads an array from a file, into memory that is there already, which is faster than mapping it anew."""
    content = clip.data.cast("B")
    filled = 0
    while filled < clip.nbytes:
        read = os.preadv(descriptor, [content[filled:]], filled)
        if not read:
            raise ValueError(f"a clip of {clip.nbytes} bytes has {filled}")
        filled += read
    return clip


def _map(descriptor: int, shape: Sequence[int]) -> np.ndarray:
    """The file's content as an array that keeps the memory for as long as it lives, without a copy."""
    return np.frombuffer(map_memory(descriptor), dtype=np.uint8).reshape(shape)
