"""The life of what writes to a run: opened, and closed once everything has been delivered, or is left for an upload."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial

from mlflow import MlflowClient
from mlflow.entities import Run, RunTag

from vjepa_mlflow.errors import UserError, one_line, reason
from vjepa_mlflow.files.temporary import lack_of_room
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.secrets import without_password
from vjepa_mlflow.tracking.active_run import end_run, is_active
from vjepa_mlflow.tracking.answers import understand
from vjepa_mlflow.tracking.delivery import deliver
from vjepa_mlflow.tracking.ending import FAILURE_TAG, briefly, has_ended, remove_failure, status_of
from vjepa_mlflow.tracking.first_answer import quiet_databases, wait_for
from vjepa_mlflow.tracking.joining import STATUS_TAG, Job
from vjepa_mlflow.tracking.log import Point, RunLog
from vjepa_mlflow.tracking.outbox import Outbox
from vjepa_mlflow.tracking.outbox_opening import open_outbox
from vjepa_mlflow.tracking.undelivered import DamagedError, UndeliveredError
from vjepa_mlflow.tracking.versions import library_versions

logger = get_logger(__name__)


@contextmanager
def open_log(run_id: str, job: Job | None = None, *, owned: bool = False, continued: bool = False) -> Iterator[RunLog]:
    """Gives what writes to a run, and has everything delivered afterwards, however the block ends.

    Args:
        run_id: the run's.
        job: whose record goes first, so that a store of artifacts that cannot be used is an error before work begins.
        owned: whether the run, the active one, is to be ended.
        continued: whether the run has been written to before.

    Raises:
        UserError: the run, or where its artifacts are, cannot be written to.
        UndeliveredError: the server has not got everything.
    """
    failure: BaseException | None = None
    with ExitStack() as stack:
        with _ending_if_it_fails(run_id) if owned else nullcontext():
            stack.enter_context(quiet_databases())
            outbox = stack.enter_context(open_outbox(run_id, partial(deliver, run_id)))
            outbox.flush()  # what a killed process left is there before we look what is there
            run = MlflowClient().get_run(run_id)
            if job is not None:
                _try_store(run, job)
                _tag_job(run, job, owned=owned)
            remove_failure(run)
            points = _points(run) if continued else set()
            log = RunLog(run, outbox, points, continued=continued, owned=owned)
        try:
            log.params(library_versions())
            yield log
            log.events()
        except BaseException as error:
            failure = error
            _log_failure(log, error)
            raise
        finally:
            _close(log, outbox, failure, owned=owned)


@contextmanager
def _ending_if_it_fails(run_id: str) -> Iterator[None]:
    """Ends the active run if it cannot even be opened."""
    try:
        yield
    except BaseException as error:
        with briefly():
            with suppress(Exception):  # the first error is worth more
                MlflowClient().set_tag(run_id, FAILURE_TAG, one_line(error))
            end_run(status_of(error))
        raise


def _try_store(run: Run, job: Job) -> None:
    """Logs what the run keeps of its job anyway, and waits until the store of its artifacts has it."""
    store = f"artifact store {without_password(run.info.artifact_uri)}"
    try:
        wait_for(lambda: MlflowClient().log_text(run.info.run_id, job.record, job.file), store)
    except UserError:
        raise
    except Exception as error:  # each store's client has errors of its own
        raise UserError(
            lack_of_room(error)
            or f"{store}: {understand(error).value} ({reason(error)}): expected one that {job.file} can be written to"
        ) from error


def _tag_job(run: Run, job: Job, *, owned: bool) -> None:
    """Tags a run with the job that it holds from now on, where it is not tagged so yet."""
    status = {STATUS_TAG: "RUNNING"} if STATUS_TAG in run.data.tags or not owned else {}
    tags = {name: value for name, value in {**job.tags, **status}.items() if run.data.tags.get(name) != value}
    if tags:
        MlflowClient().log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def _points(run: Run) -> set[Point]:
    """The metrics that a run has, but for those of the system, which MLflow counts on by itself."""
    client = MlflowClient()
    names = [name for name in run.data.metrics if not name.startswith("system/")]
    return {(name, point.step) for name in names for point in client.get_metric_history(run.info.run_id, name)}


def _log_failure(log: RunLog, error: BaseException) -> None:
    tags = {} if has_ended(error) else {FAILURE_TAG: one_line(error)}
    try:
        log.tags(tags)
        log.events()
    except UserError:  # the outbox's disk is full; the first error is worth more than this one
        with suppress(Exception):
            for name, value in tags.items():
                MlflowClient().set_tag(log.run_id, name, value)


def _close(log: RunLog, outbox: Outbox, failure: BaseException | None, *, owned: bool) -> None:
    """Has everything delivered and ends the run, or leaves both to `vjepa-mlflow upload`."""
    try:
        error = _deliver_all(outbox, failure)
        if error is None and owned:
            error = end_run(status_of(failure))
    except KeyboardInterrupt:
        error = InterruptedError("interrupted before it had")
    if error is None:
        return
    outbox.close()
    if owned:
        _leave_run(log.run_id, outbox, error, status_of(failure))
    undelivered = log.undelivered(error)
    if failure is None:
        raise KeyboardInterrupt(str(undelivered)) if isinstance(error, InterruptedError) else undelivered from error
    if not isinstance(failure, UndeliveredError):  # whose message says it already
        logger.warning(str(undelivered))


def _deliver_all(outbox: Outbox, failure: BaseException | None) -> Exception | None:
    """Has everything delivered; returns why it was not, or that something is damaged."""
    error: Exception | None = failure if isinstance(failure, UndeliveredError) else None
    if error is None or not outbox.is_blocked:  # else it has just been tried, and takes minutes each time
        error = outbox.flush() or (error if has_ended(failure) else None)
    if error is None and outbox.damage:
        error = DamagedError(outbox.folder, outbox.damage)
    return error


def _leave_run(run_id: str, outbox: Outbox, error: Exception, status: str) -> None:
    """Notes how the active run is to end once all of it has arrived, and marks it as FAILED until then."""
    outbox.leave_end(status)
    with briefly():
        with suppress(Exception, KeyboardInterrupt):
            MlflowClient().set_tag(run_id, FAILURE_TAG, reason(error))
        if is_active(run_id):
            with suppress(KeyboardInterrupt):
                end_run("FAILED")  # without an answer it is the active one no more all the same
