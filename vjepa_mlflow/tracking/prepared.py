"""The run that `mlflow run` prepared for this process: named in its environment, and ended where no job did so."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_RUN_ID

from vjepa_mlflow.tracking.ending import FAILURE_TAG, SECONDS_TO_CLOSE, briefly, terminate
from vjepa_mlflow.tracking.first_answer import quiet_databases
from vjepa_mlflow.tracking.joining import Surrounding, surrounding_run


@contextmanager
def keeping_launched_run() -> Iterator[None]:
    """Restores `MLFLOW_RUN_ID` after the block: MLflow forgets it, and there may be further jobs."""
    launched = os.environ.get(MLFLOW_RUN_ID.name)
    try:
        yield
    finally:
        if launched:
            os.environ[MLFLOW_RUN_ID.name] = launched


def end_launched_run(reason: str, status: str) -> None:
    """Ends the run that was prepared for this process, as `mlflow run` does, where no job has got as far as to do so.

    Args:
        reason: to tag it with.
        status: FAILED or KILLED.
    """

    def end() -> None:
        with suppress(Exception):  # the error that led here is shown all the same
            surrounding = surrounding_run()
            if surrounding is not None:
                end_unused_run(surrounding, reason, status)

    with briefly(), quiet_databases():
        # In a thread: whatever keeps a database, it keeps no command that has ended.
        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        ending.join(2 * SECONDS_TO_CLOSE)


def end_unused_run(surrounding: Surrounding, reason: str, status: str) -> None:
    """Ends a run that was prepared for this process if it holds no job, with the reason if there is one."""
    if not (surrounding.is_for_us_to_end and surrounding.is_free):
        return
    if reason:
        MlflowClient().set_tag(surrounding.run_id, FAILURE_TAG, reason)
    terminate(surrounding.run_id, status)
