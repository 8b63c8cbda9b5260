"""MLflow's active run: started, gone on with, and ended."""

import os
from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING, MLFLOW_RUN_ID
from mlflow.exceptions import MlflowException

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.tracking.answers import Answer, understand
from vjepa_mlflow.tracking.ending import printing_no_password, status_of
from vjepa_mlflow.tracking.first_answer import in_one_go, server
from vjepa_mlflow.tracking.joining import Surrounding


def start_run(name: str | None, tags: Mapping[str, str], surrounding: Surrounding | None) -> Run:
    """Starts a run, nested in the one that a job finds itself in.

    Raises:
        UserError: the tracking server does not let one be started.
    """
    if surrounding is None:
        return _activate(run_name=name, tags=dict(tags))
    os.environ.pop(MLFLOW_RUN_ID.name, None)  # which MLflow would join
    return _activate(
        run_name=name,
        tags=dict(tags),
        experiment_id=surrounding.run.info.experiment_id,
        parent_run_id=surrounding.run_id,
        nested=surrounding.is_active,
    )


def resume_run(run_id: str) -> Run:
    """Makes an earlier run the active one, which is RUNNING again.

    Raises:
        UserError: the tracking server does not let it go on.
    """
    return _activate(run_id=run_id, nested=True)


def is_active(run_id: str) -> bool:
    run = mlflow.active_run()
    return run is not None and run.info.run_id == run_id


def end_run(status: str) -> Exception | None:
    """Ends the active run; returns why the tracking server has not heard of it, where that is so."""
    try:
        with printing_no_password():
            mlflow.end_run(status)
    except Exception as error:
        return error
    return None


def _activate(**arguments: Any) -> Run:
    before = mlflow.active_run()
    try:
        with in_one_go():
            return mlflow.start_run(**arguments, log_system_metrics=_logs_system_metrics())
    except MlflowException as error:
        message = f"{server()}: no run can be started: {one_line(error)}"
        hint = ": expected a user who may write to the experiment" if understand(error) is Answer.FORBIDDEN else ""
        raise UserError(message + hint) from error
    except KeyboardInterrupt as interrupt:
        if mlflow.active_run() is not before:  # which MLflow would end as FINISHED
            end_run(status_of(interrupt))
        raise


def _logs_system_metrics() -> bool:
    """Whether a run that is started here has system metrics.

    MLflow's switch decides where the user has set it, and in a run of the user's own, who decided it for that one;
    else it has.

    Raises:
        UserError: the switch is none that MLflow reads.
    """
    switch = MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
    if mlflow.active_run() is None and not switch.is_set():
        return True
    try:
        return bool(switch.get())
    except ValueError as error:
        raise UserError(one_line(error)) from None
