"""What a job that computes has around it: this process for itself, and an end of all that it starts."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.compilations import own_compilations
from vjepa_mlflow.files.temporary import own_temporaries
from vjepa_mlflow.runtime.forks import check_fork
from vjepa_mlflow.runtime.interrupts import orderly_interrupts
from vjepa_mlflow.runtime.workers import worker_processes
from vjepa_mlflow.terminal.messages import messages_shown


@contextmanager
def at_work(job: str) -> Iterator[None]:
    """Shows messages, and has orderly interrupts, a folder for what is temporary and worker processes in the block.

    Args:
        job: what is done in it, as the user calls it.

    Raises:
        UserError: another thread of this process does such a job: how matrices are multiplied, how many threads
            compute, and MLflow's settings are the process's, and a graph that is recorded on a GPU has it for itself.
            Or it is a fork that cannot compute.
    """
    check_fork(job)
    with (
        _the_only_job(job),
        messages_shown(),
        orderly_interrupts(),
        own_temporaries(),
        own_compilations(),
        worker_processes(),
    ):
        yield


class _Jobs:
    """Which there are in this process, the one within the other, and whose they are."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.names: list[str] = []


_JOBS = _Jobs()
os.register_at_fork(after_in_child=_JOBS.__init__)  # type: ignore[misc]  # they are its parent's


@contextmanager
def _the_only_job(job: str) -> Iterator[None]:
    if not _JOBS.lock.acquire(blocking=False):
        raise UserError(
            f"{job}: another thread of this process is at work ({', '.join(_JOBS.names)}): expected one job at a time; "
            f"in processes of their own any number may work at once"
        )
    try:
        _JOBS.names.append(job)
        yield
    finally:
        _JOBS.names.pop()
        _JOBS.lock.release()
