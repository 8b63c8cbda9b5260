"""Messages between processes of ours, and memory that goes with them."""

import mmap
import os
import pickle
import select
import socket
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_LENGTH = 8
"""Bytes in front of a message, which say how many it has."""

_OPEN: "weakref.WeakSet[Channel]" = weakref.WeakSet()


class Channel:
    """One end of a connection between two processes of one program, which trust each other.

    It ends where the other end does: a fork of this process lets its copy go.
    """

    def __init__(self, end: socket.socket):
        self._socket = end
        _OPEN.add(self)

    @staticmethod
    def pair() -> "tuple[Channel, Channel]":
        one, other = socket.socketpair()
        return Channel(one), Channel(other)

    def send(self, message: object, *descriptors: int) -> None:
        """Sends what can be pickled, and descriptors, of which the receiver gets its own.

        Raises:
            OSError: nobody is at the other end.
        """
        content = pickle.dumps(message)
        socket.send_fds(self._socket, [len(content).to_bytes(_LENGTH, "little")], descriptors)
        self._socket.sendall(content)

    def receive(self, descriptors: int = 0) -> tuple[Any, list[int]]:
        """The next message, which is waited for, and at most so many descriptors.

        Raises:
            EOFError: there will be none.
        """
        try:
            length, received, *_ = socket.recv_fds(self._socket, _LENGTH, descriptors)
            return pickle.loads(self._read(int.from_bytes(length, "little"))) if length else self._end(), received
        except ConnectionError:
            return self._end(), []

    def has_something(self, seconds: float = 0) -> bool:
        """Whether there is a message, or the end, within so many seconds."""
        waiting = select.poll()  # select itself knows no descriptor beyond 1023
        waiting.register(self._socket, select.POLLIN)
        return bool(waiting.poll(1000 * seconds))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        with suppress(OSError):  # it is closed already
            self._socket.shutdown(socket.SHUT_RDWR)  # which a thread that waits here hears of
        self._socket.close()

    def let_go(self) -> None:
        """Closes this process's copy, and nothing for those that share it."""
        self._socket.close()

    def _read(self, length: int) -> bytearray:
        content = bytearray(length)
        rest = memoryview(content)
        while rest:
            received = self._socket.recv_into(rest)
            rest = rest[received:] if received else self._end()
        return content

    def _end(self) -> Any:
        raise EOFError("nobody is at the other end")


def _let_go_of_all() -> None:
    for channel in list(_OPEN):
        channel.let_go()


os.register_at_fork(after_in_child=_let_go_of_all)


@contextmanager
def memory_file() -> Iterator[int]:
    """A descriptor of memory that processes can pass to each other."""
    descriptor = os.memfd_create("vjepa-mlflow")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write(descriptor: int, contents: Iterable[memoryview | bytes]) -> None:
    """Writes contents one after the other, to their ends."""
    for content in contents:
        remaining = memoryview(content).cast("B")
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]


def map_memory(descriptor: int) -> mmap.mmap:
    """What was written, without a copy, for as long as it is used; changes stay this process's own."""
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
