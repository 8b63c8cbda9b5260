"""Runs that did not come to their end, so that they can go on."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from vjepa_mlflow.errors import UserError, one_line, remark
from vjepa_mlflow.recipe import differences
from vjepa_mlflow.tracking.outbox import written_here
from vjepa_mlflow.tracking.run import RunLog

DEFINITION_TAG = "vjepa_mlflow.definition"
"""The tag of a run that says, in JSON, what must be the same where it goes on."""

ALIVE_TAG = "vjepa_mlflow.alive"
"""The tag of a run that changes while a process works at it."""

SIGN_INTERVAL = 10
"""Seconds from one sign of life to the next."""

OBSERVED = 25
"""Seconds without one after which a run's process, on another machine, is taken for dead."""


@contextmanager
def resumable(log: RunLog, definition: Mapping[str, str]) -> Iterator[None]:
    """Says what a run is, and that it is being worked at for as long as the block lasts."""
    log.tags({DEFINITION_TAG: json.dumps(definition)})
    done = threading.Event()
    # A daemon that nobody waits for: the server may be silent.
    threading.Thread(target=_give_signs_of_life, args=(log.run_id, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _give_signs_of_life(run_id: str, done: threading.Event) -> None:
    while not done.wait(SIGN_INTERVAL):
        with suppress(Exception):  # whatever a server that is away makes of it
            MlflowClient().set_tag(run_id, ALIVE_TAG, f"{time.time():.0f}")


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
            known = _definition(run)
            if known is not None and not list(differences(known, definition)) and not _is_worked_at(run):
                return str(run.info.run_id)
    except MlflowException as error:
        raise UserError(f"tracking URI {mlflow.get_tracking_uri()}: it does not answer: {one_line(error)}") from error
    return None


def check_unfinished(run_id: str, definition: Mapping[str, str]) -> None:
    """Refuses to go on in a run that is another one, has finished, or is being worked at on this machine.

    Raises:
        UserError: says which.
    """
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        raise UserError(f"resume={run_id}: {one_line(error)}: expected the id of a run, or auto") from error
    known = _definition(run)
    if known is None:
        raise UserError(f"resume={run_id}: it is no training run of this project, or was stopped before it had begun")
    for name, before, now in differences(known, definition):
        raise UserError(f"resume={run_id}: the run has {name}={before}; here it is {now}: expected the same")
    if run.info.status == "FINISHED":
        raise UserError(f"resume={run_id}: it has finished: expected a run that was stopped")
    if written_here(run_id):
        raise UserError(f"resume={run_id}: another process works at it: expected a run that was stopped")


def _definition(run: Run) -> Mapping[str, str] | None:
    with suppress(KeyError, ValueError):
        return dict(json.loads(run.data.tags[DEFINITION_TAG]))
    return None


def _is_worked_at(run: Run) -> bool:
    if run.info.status != "RUNNING":
        return False
    here = written_here(run.info.run_id)
    return _gives_signs_of_life(run) if here is None else here


def _gives_signs_of_life(run: Run) -> bool:
    remark(f"Run {run.info.run_id} was not ended: looking for {OBSERVED} seconds whether another machine works at it")
    deadline = time.monotonic() + OBSERVED
    while time.monotonic() < deadline:
        time.sleep(1)
        if MlflowClient().get_run(run.info.run_id).data.tags.get(ALIVE_TAG) != run.data.tags.get(ALIVE_TAG):
            return True
    return False
