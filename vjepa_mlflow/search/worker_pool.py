"""The worker processes of a sweep, each on a GPU of its own where there are several."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.runtime.workers import start_process
from vjepa_mlflow.search.assignment import Assignment
from vjepa_mlflow.search.worker import work

logger = get_logger(__name__)

PAUSE = 0.2
SECONDS_TO_END = 20
"""How long a worker may take to give its trial back before it is killed."""


class Worker:
    """A worker process, as the process sees it that started it.

    Attributes:
        process_id: its id.
        has_encoded: whether its share of the clips is encoded.
        end: why it ended before its time, empty if it did not; None while it is at work.
    """

    def __init__(self, assignment: Assignment):
        self._channel, self.process_id = start_process(work, assignment)
        self.has_encoded = False
        self.end: str | None = None

    def listen(self, seconds: float = 0) -> None:
        """Takes its messages, if there are any, and waits for one so long."""
        while self.end is None and self._channel.has_something(seconds):
            try:
                attribute, value = self._channel.receive()[0]
            except EOFError:
                attribute, value = "end", "it was killed"
            setattr(self, attribute, value)
            seconds = 0

    def begin(self) -> None:
        """Lets it begin with the trials."""
        with suppress(OSError):  # it has ended
            self._channel.send(None)

    def stop(self) -> None:
        """Has it give its trial back and end."""
        if self.end is None:
            with suppress(ProcessLookupError):
                os.kill(self.process_id, signal.SIGTERM)

    def finish(self, deadline: float) -> None:
        """Waits so long for its end, which comes then at the latest.

        Args:
            deadline: of `time.monotonic`.
        """
        while self.end is None and time.monotonic() < deadline:
            self.listen(PAUSE)
        self._channel.close()  # of which it would die


class WorkerPool:
    """The workers of a command."""

    def __init__(self, workers: list[Worker]):
        self._workers = workers
        self._mentioned: set[Worker] = set()

    def process_ids(self) -> list[int]:
        """Of those that are at work."""
        return [worker.process_id for worker in self._workers if worker.end is None]

    def meet(self) -> None:
        """Waits until all have encoded their share."""
        while any(worker.end is None and not worker.has_encoded for worker in self._workers):
            time.sleep(PAUSE)
            self.look()

    def begin(self) -> None:
        """Lets all begin with the trials."""
        for worker in self._workers:
            worker.begin()

    def look(self) -> None:
        """Listens to all, and tells of those that ended before their time."""
        for number, worker in enumerate(self._workers, start=1):
            worker.listen()
            if worker.end and worker not in self._mentioned:
                self._mentioned.add(worker)
                logger.warning(f"Worker {number} ended ({worker.end}): its trial goes on elsewhere")

    def wait(self) -> None:
        """Waits until all have ended by themselves."""
        for worker in self._workers:
            while worker.end is None:
                worker.listen(PAUSE)


@contextmanager
def worker_pool(whole: Assignment, world_size: int) -> Iterator[WorkerPool]:
    """Starts the processes of ranks 1, 2, ...; rank 0 is this one. What goes wrong in the block ends them.

    Args:
        whole: what all processes are to do together.
        world_size: how many there are, with this one.
    """
    workers = [Worker(whole.for_process(rank, world_size)) for rank in range(1, world_size)]
    try:
        yield WorkerPool(workers)
    except BaseException:
        for worker in workers:
            worker.stop()
        raise
    finally:
        deadline = time.monotonic() + SECONDS_TO_END
        for worker in workers:
            worker.finish(deadline)
