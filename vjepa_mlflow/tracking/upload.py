"""What an earlier run left in a folder, taken to its tracking server."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.secrets import without_password
from vjepa_mlflow.tracking.delivery import deliver
from vjepa_mlflow.tracking.ending import remove_failure, terminate
from vjepa_mlflow.tracking.first_answer import server, wake_tracking
from vjepa_mlflow.tracking.log import RunLog
from vjepa_mlflow.tracking.outbox import Outbox
from vjepa_mlflow.tracking.outbox_folder import (
    Address,
    End,
    damage_beside,
    locked,
    read_address,
    read_end,
    remove_outbox,
)
from vjepa_mlflow.tracking.undelivered import DamagedError


@contextmanager
def left_log(folder: Path) -> Iterator[RunLog]:
    """Goes on with what a run could not deliver: all of it is delivered in the end, the run ended, the folder deleted.

    Args:
        folder: that `RunLog.undelivered` named.

    Raises:
        UserError: it is none, a process is at work in it, or the tracking server does not answer or has no such run.
        UndeliveredError: the server has still not got everything.
        DamagedError: all of it that is whole has been delivered, and the rest stays in the folder.
    """
    address = read_address(folder)
    with locked(folder) as is_free, _tracking_uri_of(folder, address):
        if not is_free:
            raise UserError(f"{folder}: another process delivers it: expected a run that has ended")
        run = _find_run(folder, address)
        with Outbox(folder, address.run_id, partial(deliver, address.run_id)) as outbox:
            log = RunLog(run, outbox, set())
            yield log
            log.deliver()
        if damage := [*outbox.damage, *damage_beside(folder)]:
            raise DamagedError(folder, damage)
        _end_run(address.run_id, read_end(folder))
    remove_outbox(folder)


@contextmanager
def _tracking_uri_of(folder: Path, address: Address) -> Iterator[None]:
    """Has MLflow speak to the tracking URI in force, or to the one that was noted where there is none."""
    if mlflow.is_tracking_uri_set():
        yield
        return
    if not address.tracking_uri:
        raise UserError(f"{folder}: which tracking server it is for is not known: expected it in MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(address.tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri("")  # none, as before


def _find_run(folder: Path, address: Address) -> Run:
    wake_tracking()
    try:
        return MlflowClient().get_run(address.run_id)
    except MlflowException as error:
        raise UserError(
            f"{server()}: {one_line(error)}; what {folder} holds is of a run on "
            f"{without_password(address.tracking_uri) or 'another server'}: expected that one, or where its runs are "
            f"now, in MLFLOW_TRACKING_URI; the folder stays"
        ) from error


def _end_run(run_id: str, end: End | None) -> None:
    if end is None:  # its end was its owner's
        return
    if end.status == "FINISHED":
        remove_failure(MlflowClient().get_run(run_id))
    terminate(run_id, end.status, end.end_time)
