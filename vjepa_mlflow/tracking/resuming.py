"""How a job goes on in the run that it was begun in."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.tracking.answers import permitted
from vjepa_mlflow.tracking.ending import briefly, status_of
from vjepa_mlflow.tracking.first_answer import server, wake_tracking
from vjepa_mlflow.tracking.joining import STATUS_TAG, Job, Surrounding, surrounding_run
from vjepa_mlflow.tracking.log import RunLog
from vjepa_mlflow.tracking.prepared import end_unused_run, keeping_launched_run
from vjepa_mlflow.tracking.starting import joined_log

RESUMED_TAG = "vjepa_mlflow.resumed_run"
"""The tag of a run whose work went on in another one: that one's id."""


@contextmanager
def resumed_log(run_id: str, job: Job) -> Iterator[RunLog]:
    """Goes on in an earlier run, which ends here as in `run_log`.

    Another run that is active, or that `mlflow run` prepared, stays the outer one, and names the resumed one in a tag.

    Raises:
        UserError: the tracking server does not answer as one, or has no such run.
        UndeliveredError: it did at first, and has not got everything.
    """
    wake_tracking()
    surrounding = surrounding_run()
    with ExitStack() as stack:
        stack.enter_context(keeping_launched_run())
        if surrounding is not None and surrounding.run_id != run_id:
            stack.enter_context(_naming(surrounding, run_id))
        yield stack.enter_context(joined_log(_run_that_goes_on(run_id, surrounding), job, continued=True))


def _run_that_goes_on(run_id: str, surrounding: Surrounding | None) -> Surrounding:
    """The run that goes on: it is somebody else's if it is active, or if its owner has brought it to a good end."""
    if surrounding is not None and surrounding.run_id == run_id and surrounding.is_active:
        return surrounding
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        raise UserError(f"{server()}: no run can be started: {one_line(error)}") from error
    own = STATUS_TAG not in run.data.tags or run.info.status != "FINISHED"  # else its owner has ended it well
    return Surrounding(run, is_active=not own, resumed=own)


@contextmanager
def _naming(surrounding: Surrounding, resumed: str) -> Iterator[None]:
    """Tags a run with the one that goes on in its place; one that was prepared for us, and is free, ends like it."""
    with permitted(f"run {surrounding.run_id} does not name {resumed}, which goes on"):
        MlflowClient().set_tag(surrounding.run_id, RESUMED_TAG, resumed)
    reason, status = "", "FINISHED"
    try:
        yield
    except BaseException as error:
        reason, status = one_line(error), status_of(error)
        raise
    finally:
        with briefly(), suppress(Exception):  # the error of what went on is raised all the same
            end_unused_run(surrounding, reason, status)
