"""Runs that did not come to their end, so that they can go on."""

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.recipe import differences
from vjepa_mlflow.tracking.answers import describe_deletion
from vjepa_mlflow.tracking.first_answer import server
from vjepa_mlflow.tracking.joining import job_status
from vjepa_mlflow.tracking.log import RunLog
from vjepa_mlflow.tracking.outbox_folder import finished_outbox, written_here
from vjepa_mlflow.tracking.signs_of_life import giving_signs_of_life, is_worked_at

DEFINITION_TAG = "vjepa_mlflow.definition"
"""The tag of a run that holds, in JSON, what must be the same where it goes on."""


@contextmanager
def resumable(log: RunLog, definition: Mapping[str, str]) -> Iterator[None]:
    """Tags a run with its definition, and as one that is worked at for as long as the block lasts."""
    log.tags({DEFINITION_TAG: json.dumps(definition)})
    with giving_signs_of_life(log.run_id):
        yield


def find_unfinished(definition: Mapping[str, str]) -> str | None:
    """The last run of the experiment that is defined so, has not finished, and is nobody's now.

    Raises:
        UserError: the tracking server does not answer.
    """
    try:
        runs = mlflow.search_runs(
            filter_string="attributes.status != 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            output_format="list",
        )
        for run in runs:
            defined = _definition(run)
            if defined is None or list(differences(defined, definition)) or job_status(run) == "FINISHED":
                continue
            if not is_worked_at(run, job_status(run)):
                return str(run.info.run_id)
    except MlflowException as error:
        raise UserError(f"{server()}: it does not answer: {one_line(error)}") from error
    return None


def check_unfinished(run_id: str, definition: Mapping[str, str]) -> None:
    """Refuses to go on in a run that is another one, has finished, or is being worked at on this machine.

    Raises:
        UserError: the message says which.
    """
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        raise UserError(f"resume={run_id}: {one_line(error)}: expected the id of a run, or auto") from error
    if deletion := describe_deletion(run_id):
        raise UserError(f"resume={run_id}: {deletion}: expected a run that is there")
    defined = _definition(run)
    if defined is None:
        raise UserError(f"resume={run_id}: it is no training run of this project, or was stopped before it had begun")
    for name, before, now in differences(defined, definition):
        raise UserError(f"resume={run_id}: the run has {name}={before}; here it is {now}: expected the same")
    if job_status(run) == "FINISHED":
        raise UserError(f"resume={run_id}: it has finished: expected a run that was stopped")
    if (folder := finished_outbox(run_id)) is not None:
        raise UserError(
            f"resume={run_id}: it has come to its end, and waits to be delivered: vjepa-mlflow upload "
            f"{shlex.quote(str(folder))}"
        )
    if written_here(run_id):
        raise UserError(f"resume={run_id}: another process works at it: expected a run that was stopped")


def _definition(run: Run) -> Mapping[str, str] | None:
    with suppress(KeyError, ValueError):
        return dict(json.loads(run.data.tags[DEFINITION_TAG]))
    return None
