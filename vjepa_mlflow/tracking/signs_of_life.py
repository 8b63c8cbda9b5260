"""Whether a process works at a run, here or on another machine."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlflow import MlflowClient
from mlflow.entities import Run

from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.tracking.outbox_folder import written_here

logger = get_logger(__name__)

ALIVE_TAG = "vjepa_mlflow.alive"
"""The tag of a run that changes while a process works at it."""

SIGN_INTERVAL = 10
"""Seconds from one sign of life to the next."""

OBSERVED = 25
"""Seconds without one after which a run's process, on another machine, is taken for dead."""


@contextmanager
def giving_signs_of_life(run_id: str) -> Iterator[None]:
    """Tags a run, again and again, as one that is worked at, for as long as the block lasts."""
    done = threading.Event()
    # A daemon that nobody waits for: the server may not answer.
    threading.Thread(target=_give_signs_of_life, args=(run_id, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _give_signs_of_life(run_id: str, done: threading.Event) -> None:
    while not done.wait(SIGN_INTERVAL):
        with suppress(Exception):  # whatever a server that is away makes of it
            MlflowClient().set_tag(run_id, ALIVE_TAG, f"{time.time():.0f}")


def is_worked_at(run: Run, status: str) -> bool:
    """Whether a process works at a run that was not ended; where nobody here does, it is looked for signs of life.

    Args:
        run: the run.
        status: how far the job in it has come, in MLflow's words for runs.
    """
    if status != "RUNNING":
        return False
    here = written_here(run.info.run_id)
    return _gives_signs_of_life(run) if here is None else here


def _gives_signs_of_life(run: Run) -> bool:
    logger.warning(
        f"Run {run.info.run_id} was not ended: looking for {OBSERVED} seconds whether another machine works at it"
    )
    deadline = time.monotonic() + OBSERVED
    while time.monotonic() < deadline:
        time.sleep(1)
        if MlflowClient().get_run(run.info.run_id).data.tags.get(ALIVE_TAG) != run.data.tags.get(ALIVE_TAG):
            return True
    return False
