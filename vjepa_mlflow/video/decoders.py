"""Clips of videos from strangers, decoded in processes that can do no harm."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import LifoQueue
from typing import NamedTuple

import numpy as np

from vjepa_mlflow.channel import map_memory, memory_file, write
from vjepa_mlflow.processes import deaf_to_interrupts, importable
from vjepa_mlflow.reading import open_regular
from vjepa_mlflow.video import decoder_process
from vjepa_mlflow.video.decoder_process import Answer, Request
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.limits import Limits
from vjepa_mlflow.video.sampling import Sampling

START_SECONDS = 60
"""That a process may take to start, on a machine that is busy with other things."""


class Reading(NamedTuple):
    """A clip, uint8 RGB of shape (num_frames, height, width, 3), and what is wrong with its video; empty: nothing."""

    clip: np.ndarray
    warning: str


class Decoders:
    """Reads clips in processes of their own, from any number of threads, each process one clip at a time.

    A process that dies of a video, or takes too long over it, is replaced by another.

    Args:
        count: how many processes.
        sampling: of the clips.
        limits: within which the contents of strangers' files are read.
    """

    def __init__(self, count: int, sampling: Sampling, limits: Limits):
        self._sampling = sampling
        self._limits = limits
        self._own_limits = limits.for_own_files()
        # The last one used is the next one used: its memory is still warm.
        self._idle: LifoQueue[_Process] = LifoQueue()
        for _ in range(count):
            self._idle.put(_Process())

    def read(self, video: Path | bytes, position: float) -> Reading:
        """Reads a clip; waits while all processes are busy.

        Args:
            video: a file of one's own, or the content of a stranger's.
            position: of the clip, from 0 (the video's start) to 1 (its end).

        Raises:
            VideoError: it is no video that can be read, or it is beyond the limits.
            RuntimeError: decoding cannot be done here.
        """
        limits = self._limits
        if isinstance(video, bytes):
            limits.check_size(len(video))
        else:
            limits = self._own_limits
        request = Request(self._sampling, position, limits)
        process = self._idle.get()
        try:
            with _opened(video) as content, memory_file() as frames:
                answer = process.ask(request, content, frames)
                if answer.error:
                    raise VideoError(answer.error)
                return Reading(_map(frames, answer.shape), answer.warning)
        finally:
            self._idle.put(process)


class _Process:
    """A process that decodes, and another one after it if it has to be ended.

    It ends with this object, or with the program, since it then has nobody to listen to.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, deaf_to_interrupts():
            self._process = subprocess.Popen(
                [sys.executable, "-m", decoder_process.__name__],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd="/",  # where no file of the user's has the name of a module
                # Address space is limited, and a heap for each thread would take much of it.
                env=importable({**os.environ, "MALLOC_ARENA_MAX": "1"}),
            )
        self._ready = False

    def ask(self, request: Request, content: int, frames: int) -> Answer:
        """Has it read a clip of the file `content` into the file `frames`, both descriptors.

        Raises:
            VideoError: the process died of it, or took too long.
            RuntimeError: it does not start.
        """
        self._wait_until_ready()
        try:
            socket.send_fds(self._socket, [decoder_process.encode(request)], [content, frames])
            answer = self._receive(request.limits.max_decode_seconds)
        except TimeoutError:
            self._start_again()
            limit = request.limits.max_decode_seconds
            raise VideoError(f"decoding it takes too long: expected at most {limit:g} s (max_decode_seconds)") from None
        except OSError:
            answer = b""
        if not answer:
            self._start_again()
            raise VideoError("it broke the decoder")
        return Answer(**json.loads(answer))

    def _wait_until_ready(self) -> None:
        if not self._ready and self._receive(START_SECONDS) != decoder_process.READY:
            self._start_again()
            raise RuntimeError(f"{sys.executable} -m {decoder_process.__name__} does not start")
        self._ready = True

    def _receive(self, seconds: float) -> bytes:
        self._socket.settimeout(seconds)
        return self._socket.recv(decoder_process.LARGEST_MESSAGE)

    def _start_again(self) -> None:
        self._end()
        self._start()

    def _end(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # of one that never started
            self._end()


@contextlib.contextmanager
def _opened(video: Path | bytes) -> Iterator[int]:
    """A descriptor to read a video from."""
    if isinstance(video, bytes):
        with memory_file() as descriptor:
            write(descriptor, [video])
            yield descriptor
        return
    try:
        file = open_regular(video)
    except OSError as error:
        raise VideoError(f"it cannot be opened ({error.strerror})") from error
    with file:
        yield file.fileno()


def _map(descriptor: int, shape: tuple[int, ...]) -> np.ndarray:
    """The file's content as an array that keeps the memory for as long as it lives, without a copy."""
    return np.frombuffer(map_memory(descriptor), dtype=np.uint8).reshape(shape)
