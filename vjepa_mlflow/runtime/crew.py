"""Processes that work for several askers in fair turns: no work of one of them holds up another's."""

import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from vjepa_mlflow.runtime.asking import Asker, Job, Result
from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.runtime.processes import ForkServer
from vjepa_mlflow.runtime.turns import Turns


class Crew:
    """Processes that do jobs, each one at a time, of which only so many work at once.

    Who has had least of their time is next. A process that works for one that has had more is paused meanwhile; so it
    does not matter how long a job takes. Where there is no room to pause another process, and several askers have had
    far more than usual, the one that has had most is refused.

    Args:
        server: from which the processes are forked; it is closed with this.
        work: what they do, with an end of a channel: see `crew_member.serve_jobs`.
        count: how many work at once.
        places: how many there are at most, with those that are paused.
        heavy: seconds of processes below which no asker is refused, and after which a process is not used again: what
            has taken long has taken memory, too, of which much would stay.
    """

    def __init__(self, server: ForkServer, work: Callable[[Channel], None], *, count: int, places: int, heavy: float):
        self._turns = Turns(server, work, count, places, heavy)
        self._thread = threading.Thread(target=self._turns.run, name="crew", daemon=True)
        self._thread.start()
        # The thread does not hold this object, with which its processes go, at the latest with the program.
        self.close = weakref.finalize(self, _end, self._turns, self._thread)

    @contextmanager
    def serving(self, asker: Asker) -> Iterator[None]:
        """What the asker still waits for is given up when the block is left."""
        try:
            yield
        finally:
            self._turns.post(lambda: self._turns.forget(asker))

    def submit(self, job: "Job[Result]") -> "Future[Result]":
        """Has a job done when its asker's turn comes."""
        self._turns.post(lambda: self._turns.add(job))
        return job.future

    def let_go(self, asker: Asker, size: int) -> None:
        """Says that somebody has taken so many bytes of an asker's results."""
        self._turns.post(lambda: self._turns.let_go(asker, size))

    def refuse(self, asker: Asker) -> None:
        """Gives up an asker's work, which is told a BusyError."""
        self._turns.post(lambda: self._turns.refuse(asker))

    @property
    def is_working(self) -> bool:
        """Whether any job is done just now."""
        return bool(self._turns.working)

    def abandon(self) -> None:
        """In a fork of the process that made it: lets go of what is that process's."""
        self.close.detach()
        self._turns.abandon()


def _end(turns: Turns, thread: threading.Thread) -> None:
    turns.post(turns.close)
    if thread is not threading.current_thread():  # which may be the one to forget the last of its users
        thread.join()
