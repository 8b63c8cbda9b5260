"""The nested runs of a sweep: one for each trial, however often it is taken up again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from vjepa_mlflow.tracking.log import RunLog
from vjepa_mlflow.tracking.run import open_log
from vjepa_mlflow.tracking.setting import setting

TRIAL_TAG = "vjepa_mlflow.trial"
"""The tag of a trial's run: its number."""

STATE_TAG = "vjepa_mlflow.trial_state"
"""The tag of a trial's run: how it ended, in Optuna's words, or INTERRUPTED."""

STATUSES = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED", "INTERRUPTED": "KILLED"}
"""The status of a trial's run by its state, as MLflow's own storage for Optuna has it."""


@contextmanager
def trial_log(parent_run_id: str, trial: int) -> Iterator[RunLog]:
    """Gives what writes to a trial's run, which is new, or the one that it had when it was interrupted.

    The run stays RUNNING after the block: `end_trial_run` ends it.
    """
    client = MlflowClient()
    known = _search(client, parent_run_id, f"tags.`{TRIAL_TAG}` = '{trial}'")
    run = known[0] if known else _create(client, parent_run_id, trial)
    client.update_run(run.info.run_id, status="RUNNING")
    with open_log(run.info.run_id, continued=True) as log:
        yield log


def end_trial_run(run_id: str, state: str) -> None:
    """Ends a trial's run with the status and the tag of its state."""
    client = MlflowClient()
    client.set_tag(run_id, STATE_TAG, state)
    with setting(MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.name, "true"):  # for each of many trials it is too much
        client.set_terminated(run_id, STATUSES[state])


def end_left_runs(parent_run_id: str, states: Mapping[int, str]) -> None:
    """Ends the runs that their processes left RUNNING when they were killed.

    Args:
        parent_run_id: of the sweep.
        states: of its trials; a run whose trial is in none of `STATUSES` is left alone.
    """
    client = MlflowClient()
    for run in _search(client, parent_run_id, "attributes.status = 'RUNNING'"):
        state = states.get(int(run.data.tags.get(TRIAL_TAG, -1)))
        if state in STATUSES:
            end_trial_run(run.info.run_id, state)


def trial_run_id(parent_run_id: str, trial: int) -> str:
    """The run of a trial that has one."""
    return _search(MlflowClient(), parent_run_id, f"tags.`{TRIAL_TAG}` = '{trial}'")[0].info.run_id


def _search(client: MlflowClient, parent_run_id: str, condition: str) -> list[Run]:
    experiment = client.get_run(parent_run_id).info.experiment_id
    condition = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_run_id}' and {condition}"
    return list(client.search_runs([experiment], condition, max_results=50000))


def _create(client: MlflowClient, parent_run_id: str, trial: int) -> Run:
    # In one call with its tags, so that a killed process leaves no run that nobody would find.
    tags = resolve_tags({MLFLOW_PARENT_RUN_ID: parent_run_id, TRIAL_TAG: str(trial)})
    experiment = client.get_run(parent_run_id).info.experiment_id
    return client.create_run(experiment, tags=tags, run_name=f"trial {trial}")
