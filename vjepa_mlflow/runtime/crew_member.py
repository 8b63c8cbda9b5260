"""A process that works for a crew, and may be paused."""

import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from vjepa_mlflow.runtime.asking import Job
from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.runtime.processes import ForkServer

STATM = "/proc/self/statm"
"""Where a process reads what it takes of address space."""


def serve_jobs(channel: Channel) -> socket.socket:
    """For a process of a crew: where it gets jobs from, each a message with descriptors, and answers each of them."""
    _, (descriptor,) = channel.receive(descriptors=1)
    channel.let_go()
    return socket.socket(fileno=descriptor)


@contextmanager
def more_memory(more: int, statm: int) -> Iterator[None]:
    """Lets this process take so many bytes more of address space inside the block.

    Args:
        more: bytes.
        statm: a descriptor of `STATM`, from when it might still be opened.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(os.pread(statm, 100, 0).split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


class Member:
    """A process of a crew."""

    def __init__(self, ours: socket.socket, process: int):
        self.socket, self._process = ours, process
        self.job: Job[Any] | None = None
        self.ended = False
        self._began = 0.0
        self._counted: float | None = None  # until when its work was counted; None: it does not work

    @classmethod
    def start(cls, server: ForkServer, work: Callable[[Channel], None]) -> "Member":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            started = server.start(work)
            process = os.pidfd_open(started.process_id)
            started.channel.send(None, theirs.fileno())
            started.channel.let_go()
        ours.setblocking(False)
        return cls(ours, process)

    def begin(self, job: Job[Any], message: bytes, descriptors: Sequence[int]) -> None:
        self.job = job
        self._began = self._counted = time.monotonic()
        try:
            socket.send_fds(self.socket, [message], descriptors)
        except OSError:  # it is dead, or takes no such message: it will be heard of
            self._send(signal.SIGKILL)

    @property
    def seconds_left(self) -> float:
        return self.job.limit - self.job.seconds if self.job is not None else float("inf")

    def count_time(self, now: float) -> None:
        if self.job is not None and self._counted is not None:
            self.job.seconds += now - self._counted
            self.job.asker.seconds += now - self._counted
            self._counted = now

    @property
    def had(self) -> float:
        """Seconds that the one has had that it works for."""
        return self.job.asker.seconds if self.job is not None else 0.0

    def seconds_at_work(self, now: float) -> float:
        """Since it began, or went on."""
        return now - self._began

    def pause(self) -> None:
        self._counted = None
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._began = self._counted = time.monotonic()
        self._send(signal.SIGCONT)

    def end(self) -> None:
        self._send(signal.SIGKILL)
        self.let_go()

    def let_go(self) -> None:
        os.close(self._process)
        self.socket.close()

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, number)
