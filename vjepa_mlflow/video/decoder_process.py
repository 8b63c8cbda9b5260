"""The program that decodes strangers' videos: FFmpeg where it can do no harm.

    python -m vjepa_mlflow.video.decoder_process < SOCKET

Whatever a file makes FFmpeg do, this process cannot open a file or a socket, since it may have no more descriptors
than it was given; it can take only so much memory; and it is killed when it takes too long. It takes one request after
the other from the Unix socket that is its standard input, and ends with it: JSON with the fields of `Request`, and two
descriptors, of the video and of a file for its frames. It answers with the fields of `Answer`.
"""

import importlib
import json
import os
import pkgutil
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from types import ModuleType
from typing import Any

import av

from vjepa_mlflow.video.decode import sample_clip
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.limits import Limits
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.sampling import Sampling
from vjepa_mlflow.video.timeline import read_timeline

LARGEST_MESSAGE = 1 << 16
READY = b"ready"
STATM = Path("/proc/self/statm")

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
    """A clip to read, see `read_clip`."""

    sampling: Sampling
    position: float
    limits: Limits


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
    return Request(Sampling(**fields["sampling"]), fields["position"], Limits(**{**limits, **names}))


def main() -> None:
    av.logging.set_level(None)
    _import_all_of(av)
    with socket.socket(fileno=sys.stdin.fileno()) as requests, STATM.open("rb", buffering=0) as statm:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = statm.fileno() + 1 + 2  # those that are open, and those that come with a request
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        with suppress(ConnectionError):  # of a parent that is gone
            requests.send(READY)
            while (received := socket.recv_fds(requests, LARGEST_MESSAGE, 2))[0]:
                message, descriptors, *_ = received
                requests.send(encode(_answer(decode_request(message), *descriptors, statm=statm)))


def _import_all_of(package: ModuleType) -> None:
    """PyAV imports some of its modules, which are files, when they are first needed."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _answer(request: Request, video: int, frames: int, *, statm: FileIO) -> Answer:
    with os.fdopen(video, "rb") as file, os.fdopen(frames, "wb") as output:
        source = Source(file, request.limits, threads=THREADS, lenient=True)
        try:
            with _memory(_opening_bytes(request, size=os.fstat(video).st_size), statm):
                timeline = read_timeline(source)
            with _memory(_decoding_bytes(request), statm):
                clip, timeline = sample_clip(source, request.sampling, request.position, timeline)
                output.write(clip.data)
        except VideoError as error:
            return Answer(error=str(error))
        except MemoryError:
            return Answer(error="it takes too much memory to decode")
    if not timeline.is_incomplete:
        return Answer(clip.shape)
    found, announced = timeline.num_frames, timeline.num_announced
    warning = f"cut off or damaged: the clip is taken from {found} of its {announced} frames"
    return Answer(clip.shape, warning=warning)


def _opening_bytes(request: Request, *, size: int) -> int:
    return OPENING_BYTES + min(INDEX_BYTES * size, FRAME_BYTES * request.limits.max_frames)


def _decoding_bytes(request: Request) -> int:
    clip = request.sampling.num_frames * 3
    return DECODING_BYTES + request.limits.max_pixels * (2 * clip + DECODED_FRAMES * BYTES_A_PIXEL)


@contextmanager
def _memory(more: int, statm: FileIO) -> Iterator[None]:
    """Lets this process take so many bytes more of address space inside the block."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(os.pread(statm.fileno(), 100, 0).split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


if __name__ == "__main__":
    main()
