"""What a process does that decodes strangers' videos: FFmpeg where it can do no harm.

Whatever a file makes FFmpeg do, this process cannot open a file or a socket, since it may have no more descriptors
than it was given; it can take only so much memory; and it is killed when it takes too long. It takes one request after
the other from a Unix socket, and ends with it: JSON with the fields of `Request`, and two descriptors, of a file with
the video in it and of one for its frames. It answers with the fields of `Answer`.
"""

import ctypes
import fcntl
import io
import json
import math
import mmap
import os
import resource
import socket
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, BinaryIO, cast

import av
import numpy as np

from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.runtime.crew_member import STATM, more_memory, serve_jobs
from vjepa_mlflow.video.decode import sample_clip
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.limits import Limits
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.sampling import Sampling
from vjepa_mlflow.video.timeline import read_timeline

LIBC = ctypes.CDLL(None)
LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
NOWHERE = ctypes.c_void_p(-1).value

LARGEST_MESSAGE = 1 << 16
REQUESTS, MEMORY = 3, 4
"""Descriptors that it keeps, after those for input, output and errors, and that a request's follow."""

OPENING_BYTES = 96 * 2**20
"""Of memory, for looking at a file before its size of frames is known to be within its limits."""

INDEX_BYTES, FRAME_BYTES = 32, 512
"""Of memory beyond that, for what a file says of its frames: for each of its bytes, and at most for each frame."""

DECODING_BYTES = 256 * 2**20
"""Of memory, for decoding, beside that for frames."""

DECODED_FRAMES = 24
"""Frames that a decoder may keep for reference."""

THREADS = 4
"""That decode a video, which may be the only one, and is waited for."""

BYTES_A_PIXEL = 6
"""Of such frames at most: three planes of 16 bits."""


@dataclass(frozen=True)
class Request:
    """A clip to read, see `read_clip`, of a video that is so many bytes of a file from an offset on."""

    sampling: Sampling
    position: float
    limits: Limits
    offset: int
    size: int


@dataclass(frozen=True)
class Answer:
    """What was read, or what is wrong with the video.

    Attributes:
        shape: of the clip, (num_frames, height, width, 3), whose bytes are in the file for frames.
        warning: what is wrong with the video though there is a clip; empty if nothing is.
        error: why there is no clip; empty where there is.
    """

    shape: tuple[int, ...] = ()
    warning: str = ""
    error: str = ""


@lru_cache
def encode(message: Request | Answer) -> bytes:
    return json.dumps(asdict(message)).encode()


@lru_cache
def decode_request(message: bytes) -> Request:
    fields = json.loads(message)
    limits: dict[str, Any] = fields["limits"]
    names = {name: tuple(limits[name]) for name in ("containers", "codecs")}
    fields["limits"] = Limits(**{**limits, **names})
    return Request(**{**fields, "sampling": Sampling(**fields["sampling"])})


def work(channel: Channel) -> None:
    """Reads clips for a crew, until nobody asks for them any more."""
    av.logging.set_level(None)
    with _alone(serve_jobs(channel)) as requests, suppress(ConnectionError):  # of a parent that is gone
        while (received := socket.recv_fds(requests, LARGEST_MESSAGE, 2))[0]:
            message, descriptors, *_ = received
            requests.send(encode(_answer(decode_request(message), *descriptors)))


def _alone(requests: socket.socket) -> socket.socket:
    """Gives up all but what it needs, and the right to open anything else."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = os.open(STATM, os.O_RDONLY)
    nothing = os.open(os.devnull, os.O_RDWR)
    descriptors = {REQUESTS: requests.detach(), MEMORY: memory, 0: nothing, 1: nothing}
    # First to where no place is, since one of them may lie in that of another.
    apart = {place: fcntl.fcntl(descriptor, fcntl.F_DUPFD, MEMORY + 1) for place, descriptor in descriptors.items()}
    for place, descriptor in apart.items():
        os.dup2(descriptor, place)
    os.closerange(MEMORY + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    most = MEMORY + 1 + 2  # those that come with a request
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return socket.socket(fileno=REQUESTS)


def _answer(request: Request, video: int, frames: int) -> Answer:
    try:
        source = Source(cast(BinaryIO, _Part(video, request)), request.limits, threads=THREADS, lenient=True)
        with more_memory(_opening_bytes(request), MEMORY):
            timeline = read_timeline(source)
        with more_memory(_decoding_bytes(request), MEMORY):
            clip, timeline = sample_clip(
                source, request.sampling, request.position, timeline, allocate=lambda shape: _shared(frames, shape)
            )
    except VideoError as error:
        return Answer(error=str(error))
    except MemoryError:
        return Answer(error="it takes too much memory to decode")
    finally:
        os.close(video)
        os.close(frames)
    if not timeline.is_incomplete:
        return Answer(clip.shape)
    there, announced = timeline.num_frames, timeline.num_announced
    warning = f"cut off or damaged: the clip is taken from {there} of its {announced} frames"
    return Answer(clip.shape, warning=warning)


class _Part(io.RawIOBase):
    """The video's part of a file."""

    def __init__(self, descriptor: int, request: Request):
        self._descriptor, self._offset, self._size = descriptor, request.offset, request.size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = memoryview(buffer)[: max(0, self._size - self._at)]
        read = os.preadv(self._descriptor, [part], self._offset + self._at)
        self._at += read
        return read

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError("before the beginning")
        self._at = start + offset
        return self._at


def _shared(descriptor: int, shape: tuple[int, ...]) -> np.ndarray:
    """An array that is the content of a file in memory, which whoever asked for it has too.

    Python's own `mmap` would take another descriptor for it.
    """
    size = math.prod(shape)
    os.ftruncate(descriptor, size)
    address = LIBC.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
    if address == NOWHERE:
        raise MemoryError
    content = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(content, LIBC.munmap, address, size)
    return np.frombuffer(memoryview(content), dtype=np.uint8).reshape(shape)


def _opening_bytes(request: Request) -> int:
    return OPENING_BYTES + min(INDEX_BYTES * request.size, FRAME_BYTES * request.limits.max_frames)


def _decoding_bytes(request: Request) -> int:
    clip = request.sampling.num_frames * 3
    return DECODING_BYTES + request.limits.max_pixels * (2 * clip + DECODED_FRAMES * BYTES_A_PIXEL)
