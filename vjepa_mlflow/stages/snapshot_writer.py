"""Training's states to a disk and a server, while it goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vjepa_mlflow import training


class SnapshotWriter:
    """A thread that writes states one after the other: of those that wait, the newest.

    It never has more than two in memory, the one that is being written and the one that waits.

    Args:
        write: writes one. What it raises is raised by the next call here, once.
    """

    def __init__(self, write: Callable[[training.Snapshot], None]):
        self._write = write
        self._changed = threading.Condition()
        self._waiting: tuple[training.Snapshot, training.HostMemory] | None = None
        self._free: training.HostMemory | None = None
        self._is_writing = self._is_closed = False
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def lend(self) -> training.HostMemory:
        """Memory for a new state, that of the waiting one before any: the new one is written in its place.

        Raises:
            Exception: an earlier state could not be written.
        """
        with self._changed:
            self._check()
            if self._waiting is not None:
                (_, memory), self._waiting = self._waiting, None
            else:
                memory, self._free = self._free or training.HostMemory(), None
            return memory

    def put(self, snapshot: training.Snapshot, memory: training.HostMemory) -> None:
        """Has a state written that lies in memory that was lent, and returns at once."""
        with self._changed:
            self._waiting = snapshot, memory
            self._changed.notify_all()
        if self._thread is None:
            # A daemon, so that a disk that never answers does not keep a process that was told twice to end.
            self._thread = threading.Thread(target=self._work, daemon=True, name="checkpoints")
            self._thread.start()

    def finish(self) -> None:
        """Waits until nothing is left to write. Raises what `lend` raises."""
        with self._changed:
            self._changed.wait_for(lambda: self._error or not (self._waiting or self._is_writing))
            self._check()

    def close(self) -> None:
        """Ends the thread and gives the memory back; waits for what is being written, and drops what waits."""
        with self._changed:
            self._is_closed = True
            self._waiting = self._free = None
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _check(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while (waiting := self._next()) is not None:
            snapshot, memory = waiting
            error: Exception | None = None
            try:
                self._write(snapshot)
            except Exception as failure:
                error = failure
            with self._changed:
                self._error, self._is_writing = error, False
                self._free = None if self._is_closed else memory
                self._changed.notify_all()

    def _next(self) -> tuple[training.Snapshot, training.HostMemory] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            waiting, self._waiting = self._waiting, None
            self._is_writing = waiting is not None
            return waiting
