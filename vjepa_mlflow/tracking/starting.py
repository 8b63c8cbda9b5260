"""How a job gets its run: it joins the one that it finds itself in, or starts one of its own, nested in that."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.tracking.active_run import resume_run, start_run
from vjepa_mlflow.tracking.ending import status_of
from vjepa_mlflow.tracking.first_answer import wake_tracking
from vjepa_mlflow.tracking.joining import JOB_TAG, STATUS_TAG, Job, Surrounding, one_at_a_time, surrounding_run
from vjepa_mlflow.tracking.lifecycle import open_log
from vjepa_mlflow.tracking.log import RunLog
from vjepa_mlflow.tracking.prepared import keeping_launched_run

logger = get_logger(__name__)


@contextmanager
def run_log(job: Job, *, name: str | None = None) -> Iterator[RunLog]:
    """Gives a job its run: the active one, or the one that `mlflow run` prepared, or a new one.

    A run that is joined takes one job; a further one gets a run of its own, nested in it, so that nothing of the first
    is overwritten. A run that was started here, or prepared for this process, ends here: FINISHED, FAILED with the
    reason as a tag, or KILLED. Any other that is joined keeps its name, its status and its end, which are its owner's.

    Args:
        job: what is to be done.
        name: of a run that is started here.

    Raises:
        UserError: the tracking server does not answer as one.
        UndeliveredError: it did at first, and has not got everything.
    """
    wake_tracking()
    with ExitStack() as stack:
        stack.enter_context(keeping_launched_run())
        surrounding = surrounding_run()
        with one_at_a_time(surrounding.run_id) if surrounding else nullcontext():
            surrounding = surrounding and surrounding_run()  # as it is now that this process is alone
            if surrounding is not None and surrounding.is_free_for(job):
                log = stack.enter_context(joined_log(surrounding, job, continued=surrounding.holds(job)))
            else:
                log = stack.enter_context(_new_log(job, name, surrounding))
        yield log


@contextmanager
def joined_log(surrounding: Surrounding, job: Job, *, continued: bool) -> Iterator[RunLog]:
    """Writes to a run that is there, and tags it so at once, for any further job to see.

    Args:
        surrounding: the run.
        job: that is done in it.
        continued: whether the job has been at work in the run before.
    """
    owned = surrounding.is_for_us_to_end
    if owned:
        resume_run(surrounding.run_id)
    with ExitStack() as stack:
        log = stack.enter_context(open_log(surrounding.run_id, job, owned=owned, continued=continued))
        if not owned or STATUS_TAG in surrounding.run.data.tags:
            stack.enter_context(_tagging_how_it_ends(log))
        yield log


@contextmanager
def _new_log(job: Job, name: str | None, surrounding: Surrounding | None) -> Iterator[RunLog]:
    """Writes to a run of the job's own, nested in the one that it finds itself in."""
    name = job.name if name is None and surrounding is not None else name  # among others, it is known by that
    run = start_run(name, job.tags, surrounding)
    if surrounding is not None:
        held_job = surrounding.run.data.tags.get(JOB_TAG, "job of this package")
        nested = f"this {job.name} is run {run.info.run_id}, nested in it"
        logger.warning(f"Run {surrounding.run_id} holds its {held_job}: {nested}")
    with open_log(run.info.run_id, job, owned=True) as log:
        yield log


@contextmanager
def _tagging_how_it_ends(log: RunLog) -> Iterator[None]:
    """Tags a run with what becomes of the job in it, where its own status says something else."""
    status = "FINISHED"
    try:
        yield
    except BaseException as error:
        status = status_of(error)
        raise
    finally:
        with suppress(UserError):  # the outbox's disk is full, of which an error is on its way
            log.tags({STATUS_TAG: status})
