"""The nested runs of a sweep: one for each trial, however often it is taken up again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.runtime.environment import temporary_environment
from vjepa_mlflow.tracking.answers import describe_deletion
from vjepa_mlflow.tracking.ending import FAILURE_TAG, briefly, remove_failure
from vjepa_mlflow.tracking.first_answer import server
from vjepa_mlflow.tracking.lifecycle import open_log
from vjepa_mlflow.tracking.log import RunLog
from vjepa_mlflow.tracking.undelivered import UndeliveredError, UndeliveredPartError

logger = get_logger(__name__)

TRIAL_TAG = "vjepa_mlflow.trial"
"""The tag of a trial's run: its number."""

STATE_TAG = "vjepa_mlflow.trial_state"
"""The tag of a trial's run: how it ended, in Optuna's words, or INTERRUPTED."""

STATUSES = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED", "INTERRUPTED": "KILLED"}
"""The status of a trial's run by its state, as MLflow's own storage for Optuna has it."""


class DeletedRunError(UserError):
    """The run of a trial was deleted while it was tried."""


def study_params(run_id: str, study: str) -> Mapping[str, str]:
    """The parameters of the run that holds a study.

    Raises:
        UserError: it was deleted, or is not on this tracking server.
    """
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise UserError(
                f"study={study}: run {run_id}, which holds it, cannot be read ({one_line(error)})"
            ) from error
        raise UserError(
            f"study={study}: its run {run_id} is not on {server()}: expected the tracking URI that it began with "
            f"(MLFLOW_TRACKING_URI), or another name (--study)"
        ) from error
    if deletion := describe_deletion(run_id):
        raise UserError(f"study={study}: {deletion}: expected it back, or another name (--study)")
    return run.data.params


@contextmanager
def trial_log(parent_run_id: str, trial: int) -> Iterator[RunLog]:
    """Gives what writes to a trial's run, which is new, or the one that it had when it was interrupted.

    The run stays RUNNING after the block: `end_trial_run` ends it.

    Raises:
        UserError: the trial can have no run; as `DeletedRunError` where that was deleted during the block.
        UndeliveredPartError: the server has not got everything.
    """
    run = _run_of(parent_run_id, trial)
    try:
        with open_log(run.info.run_id, continued=True) as log:
            yield log
    except (MlflowException, UndeliveredError) as error:
        if deletion := describe_deletion(run.info.run_id):
            raise DeletedRunError(f"trial {trial}: {deletion}: it is tried again in another one") from error
        if isinstance(error, UndeliveredError):
            raise UndeliveredPartError(f"trial {trial}: {error}, or the sweep's own command, which goes on") from error
        raise


def end_trial_run(run_id: str, state: str, failure: str = "") -> None:
    """Ends a trial's run with the status and the tag of its state, and with the reason where it failed.

    Raises:
        UserError: the tracking server does not do so.
    """
    client = MlflowClient()
    try:
        client.set_tag(run_id, STATE_TAG, state)
        if failure:
            client.set_tag(run_id, FAILURE_TAG, failure)
        with temporary_environment(
            MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.name, "true"
        ):  # for each of many trials it is too much
            client.set_terminated(run_id, STATUSES[state])
    except MlflowException as error:
        if not (deletion := describe_deletion(run_id)):
            raise UserError(
                f"{server()}: a trial was {state}, and its run {run_id} cannot be ended ({one_line(error)}): expected "
                f"one that answers; the same command ends it"
            ) from error
        logger.warning(f"A trial was {state}: {deletion}")


def leave_trial_run(run_id: str) -> None:
    """Ends the run of an interrupted trial, if that is soon done: whoever takes the trial up again does so, too."""
    with briefly(), suppress(Exception):  # what interrupted it is the error to tell
        end_trial_run(run_id, "INTERRUPTED")


def end_left_runs(parent_run_id: str, ended: Mapping[int, tuple[str, str]]) -> None:
    """Ends the runs that their processes left RUNNING when they were killed, and those of trials that failed since.

    Args:
        parent_run_id: of the sweep.
        ended: the state and the failure of each of its trials; a run whose trial's is in none of `STATUSES` is left
            alone.
    """
    unended = ["attributes.status = 'RUNNING'", f"tags.`{STATE_TAG}` = 'INTERRUPTED'"]
    runs = [run for condition in unended for run in _search(parent_run_id, condition)]
    for run in {run.info.run_id: run for run in runs}.values():
        state, failure = ended.get(int(run.data.tags.get(TRIAL_TAG, -1)), ("", ""))
        is_ended = run.info.status != "RUNNING" and run.data.tags.get(STATE_TAG) == state
        if state in STATUSES and not is_ended:
            if state in ("COMPLETE", "PRUNED"):
                remove_failure(run)  # of an attempt that did not hear that it had come to its end
            end_trial_run(run.info.run_id, state, failure)


def find_trial_run(parent_run_id: str, trial: int) -> str | None:
    """The run of a trial; None where it has none, or one that was deleted."""
    runs = _search(parent_run_id, _is_of(trial))
    return runs[0].info.run_id if runs else None


def trial_run_id(parent_run_id: str, trial: int) -> str:
    """The run of a trial that has had one.

    Raises:
        UserError: it was deleted.
    """
    if (run_id := find_trial_run(parent_run_id, trial)) is not None:
        return run_id
    deleted = _search(parent_run_id, _is_of(trial), ViewType.DELETED_ONLY)
    back = f"mlflow runs restore --run-id {deleted[0].info.run_id}" if deleted else "another name (--study)"
    raise UserError(f"run {parent_run_id}: the run of its trial {trial} was deleted: expected it back: {back}")


def _run_of(parent_run_id: str, trial: int) -> Run:
    """The run that a trial has, RUNNING again, or a new one."""
    try:
        runs = _search(parent_run_id, _is_of(trial))
        if not runs:
            return _create(parent_run_id, trial)
        MlflowClient().update_run(runs[0].info.run_id, status="RUNNING")
    except MlflowException as error:
        why = describe_deletion(parent_run_id) or one_line(error)
        raise UserError(f"{server()}: trial {trial} can have no run: {why}") from error
    return runs[0]


def _is_of(trial: int) -> str:
    return f"tags.`{TRIAL_TAG}` = '{trial}'"


@cache
def _experiment_of(run_id: str) -> str:
    """Asked once: a run stays in its experiment."""
    return str(MlflowClient().get_run(run_id).info.experiment_id)


def _search(parent_run_id: str, condition: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """The runs nested in a sweep's for which a condition holds."""
    condition = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_run_id}' and {condition}"
    experiment_id = _experiment_of(parent_run_id)
    return list(MlflowClient().search_runs([experiment_id], condition, run_view_type=view, max_results=50000))


def _create(parent_run_id: str, trial: int) -> Run:
    # In one call with its tags, so that a killed process leaves no run that nobody would find.
    tags = resolve_tags({MLFLOW_PARENT_RUN_ID: parent_run_id, TRIAL_TAG: str(trial)})
    return MlflowClient().create_run(_experiment_of(parent_run_id), tags=tags, run_name=f"trial {trial}")
