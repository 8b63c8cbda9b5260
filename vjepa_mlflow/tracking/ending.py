"""The end of a run: its status and its failure, by what became of the job, and how long that may take."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)

from vjepa_mlflow.runtime.environment import temporary_environment
from vjepa_mlflow.secrets import has_password
from vjepa_mlflow.tracking.answers import permitted
from vjepa_mlflow.tracking.undelivered import UndeliveredError, UndeliveredPartError

FAILURE_TAG = "vjepa_mlflow.failure"
"""The tag of a failed run that holds the reason, in one line."""

SECONDS_TO_CLOSE = 5
"""For which the end of a run that gave delivery up waits: for what is under way, and for each last answer."""


def has_ended(failure: BaseException | None) -> bool:
    """Whether a job itself has come to its end, by the error that ended it."""
    return failure is None or (isinstance(failure, UndeliveredError) and not isinstance(failure, UndeliveredPartError))


def status_of(failure: BaseException | None) -> str:
    """The status of a run, in MLflow's words, by the error that ended its job."""
    if has_ended(failure):
        return "FINISHED"
    return "KILLED" if isinstance(failure, KeyboardInterrupt) else "FAILED"


def remove_failure(run: Run) -> None:
    """Has a run that failed before not say so any more."""
    if FAILURE_TAG in run.data.tags:
        with permitted(f"run {run.info.run_id} keeps its tag {FAILURE_TAG}"):
            MlflowClient().delete_tag(run.info.run_id, FAILURE_TAG)


def terminate(run_id: str, status: str, end_time: int | None = None) -> None:
    """Ends a run that is not the active one.

    Args:
        run_id: the run's.
        status: in MLflow's words.
        end_time: in milliseconds; else now.
    """
    with printing_no_password():
        MlflowClient().set_terminated(run_id, status, end_time)


@contextmanager
def printing_no_password() -> Iterator[None]:
    """Has MLflow not print where an ended run is to be seen, if a password stands in that."""
    if has_password(mlflow.get_tracking_uri()):
        with temporary_environment(MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.name, "true"):
            yield
    else:
        yield


@contextmanager
def briefly() -> Iterator[None]:
    """Has MLflow wait no longer for a server than whoever is about to leave."""
    seconds = str(SECONDS_TO_CLOSE)
    with (
        temporary_environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES.name, "0"),
        temporary_environment(MLFLOW_HTTP_REQUEST_TIMEOUT.name, seconds),
    ):
        yield
