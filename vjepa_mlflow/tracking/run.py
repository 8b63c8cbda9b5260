"""An MLflow run for a job of ours: joined or started, gone on with, and ended as it went."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.environment_variables import (
    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_RUN_ID,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.exceptions import MlflowException

from vjepa_mlflow.errors import UserError, one_line, reason
from vjepa_mlflow.files.temporary import lack_of_room
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.runtime.environment import temporary_environment
from vjepa_mlflow.secrets import has_password, without_password
from vjepa_mlflow.tracking.answers import Answer, permitted, understand
from vjepa_mlflow.tracking.delivery import deliver
from vjepa_mlflow.tracking.first_answer import in_one_go, quiet_databases, server, wait_for, wake_tracking
from vjepa_mlflow.tracking.joining import JOB_TAG, STATUS_TAG, Job, Surrounding, one_at_a_time, surrounding_run
from vjepa_mlflow.tracking.log import Point, RunLog
from vjepa_mlflow.tracking.outbox import (
    SECONDS_TO_CLOSE,
    DamagedError,
    Outbox,
    UndeliveredError,
    UndeliveredPartError,
    open_outbox,
)
from vjepa_mlflow.tracking.outbox_folder import (
    Address,
    End,
    damage_beside,
    locked,
    read_address,
    read_end,
    remove_outbox,
)
from vjepa_mlflow.tracking.versions import library_versions

logger = get_logger(__name__)

FAILURE_TAG = "vjepa_mlflow.failure"
"""The tag of a failed run that holds the reason, in one line."""

RESUMED_TAG = "vjepa_mlflow.resumed_run"
"""The tag of a run whose work went on in another one: that one's id."""


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
    with ExitStack() as opened:
        opened.enter_context(_keeping_launched_run())
        surrounding = surrounding_run()
        with one_at_a_time(surrounding.run_id) if surrounding else nullcontext():
            surrounding = surrounding and surrounding_run()  # as it is now that this process is alone
            if surrounding is not None and surrounding.is_free_for(job):
                log = opened.enter_context(_joined_log(surrounding, job, continued=surrounding.holds(job)))
            else:
                log = opened.enter_context(_new_log(job, name, surrounding))
        yield log


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
    with ExitStack() as opened:
        opened.enter_context(_keeping_launched_run())
        if surrounding is not None and surrounding.run_id != run_id:
            opened.enter_context(_naming(surrounding, run_id))
        yield opened.enter_context(_joined_log(_place_of(run_id, surrounding), job, continued=True))


def _place_of(run_id: str, surrounding: Surrounding | None) -> Surrounding:
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
def _new_log(job: Job, name: str | None, surrounding: Surrounding | None) -> Iterator[RunLog]:
    """Writes to a run of the job's own, nested in the one that it finds itself in."""
    name = job.name if name is None and surrounding is not None else name  # among others, it is known by that
    run = _start_run(name, job.tags, surrounding)
    if surrounding is not None:
        held = surrounding.run.data.tags.get(JOB_TAG, "job of this package")
        nested = f"this {job.name} is run {run.info.run_id}, nested in it"
        logger.warning(f"Run {surrounding.run_id} holds its {held}: {nested}")
    with open_log(run.info.run_id, job, owned=True) as log:
        yield log


@contextmanager
def _keeping_launched_run() -> Iterator[None]:
    """Has `MLFLOW_RUN_ID` say after the block what it said before: MLflow forgets it, and there may be further jobs."""
    launched = os.environ.get(MLFLOW_RUN_ID.name)
    try:
        yield
    finally:
        if launched:
            os.environ[MLFLOW_RUN_ID.name] = launched


@contextmanager
def _joined_log(surrounding: Surrounding, job: Job, *, continued: bool) -> Iterator[RunLog]:
    """Writes to a run that is there, and says so at once, for any further job to see."""
    owned = surrounding.is_for_us_to_end
    if owned:
        _resume_run(surrounding.run_id)
    with ExitStack() as opened:
        log = opened.enter_context(open_log(surrounding.run_id, job, owned=owned, continued=continued))
        if not owned or STATUS_TAG in surrounding.run.data.tags:
            opened.enter_context(_telling_how_it_ends(log))
        yield log


@contextmanager
def _telling_how_it_ends(log: RunLog) -> Iterator[None]:
    """Tags a run with what becomes of the job in it, where its own status says something else."""
    status = "FINISHED"
    try:
        yield
    except BaseException as error:
        status = _status(error)
        raise
    finally:
        with suppress(UserError):  # the outbox's disk is full, which is told
            log.tags({STATUS_TAG: status})


@contextmanager
def _naming(surrounding: Surrounding, resumed: str) -> Iterator[None]:
    """Tags a run with the one that goes on in its place; one that was prepared for us, and is free, ends like it."""
    with permitted(f"run {surrounding.run_id} does not name {resumed}, which goes on"):
        MlflowClient().set_tag(surrounding.run_id, RESUMED_TAG, resumed)
    reason, status = "", "FINISHED"
    try:
        yield
    except BaseException as error:
        reason, status = one_line(error), _status(error)
        raise
    finally:
        with briefly(), suppress(Exception):  # what went on is told all the same
            _end_surrounding(surrounding, reason, status)


def _begin(run: Run, job: Job, status: Mapping[str, str]) -> None:
    """Says what a run holds from now on, where it does not say so yet."""
    client = MlflowClient()
    said = {name: value for name, value in {**job.tags, **status}.items() if run.data.tags.get(name) != value}
    if said:
        client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in said.items()])


def take_failure_back(run: Run) -> None:
    """Has a run that failed before not say so any more."""
    if FAILURE_TAG in run.data.tags:
        with permitted(f"run {run.info.run_id} keeps its tag {FAILURE_TAG}"):
            MlflowClient().delete_tag(run.info.run_id, FAILURE_TAG)


def _start_run(name: str | None, tags: Mapping[str, str], surrounding: Surrounding | None) -> Run:
    """Starts a run, nested in the one that a job finds itself in."""
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


def _resume_run(run_id: str) -> Run:
    return _activate(run_id=run_id, nested=True)


def _activate(**arguments: Any) -> Run:
    before = mlflow.active_run()
    try:
        with in_one_go():
            return mlflow.start_run(**arguments, log_system_metrics=_system_metrics())
    except MlflowException as error:
        said = f"{server()}: no run can be started: {one_line(error)}"
        allowed = ": expected a user who may write to the experiment" if understand(error) is Answer.FORBIDDEN else ""
        raise UserError(said + allowed) from error
    except KeyboardInterrupt as interrupt:
        if mlflow.active_run() is not before:  # which MLflow would end as FINISHED
            _end_run(_status(interrupt))
        raise


def _system_metrics() -> bool:
    """Whether a run that is started here has system metrics.

    MLflow's switch says so where the user has set it, and in a run of the user's own, who said it of that one; else it
    has.

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
    with locked(folder) as free, _tracking_of(folder, address):
        if not free:
            raise UserError(f"{folder}: another process delivers it: expected a run that has ended")
        run = _find_left_run(folder, address)
        outbox = Outbox(folder, address.run_id, partial(deliver, address.run_id))
        try:
            log = RunLog(run, outbox, set())
            yield log
            log.deliver()
        finally:
            outbox.close()
        if damage := [*outbox.damage, *damage_beside(folder)]:
            raise DamagedError(folder, damage)
        _end_left_run(address.run_id, read_end(folder))
    remove_outbox(folder)


@contextmanager
def _tracking_of(folder: Path, address: Address) -> Iterator[None]:
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


def _find_left_run(folder: Path, address: Address) -> Run:
    wake_tracking()
    try:
        return MlflowClient().get_run(address.run_id)
    except MlflowException as error:
        raise UserError(
            f"{server()}: {one_line(error)}; what {folder} holds is of a run on "
            f"{without_password(address.tracking_uri) or 'another server'}: expected that one, or where its runs are "
            f"now, in MLFLOW_TRACKING_URI; the folder stays"
        ) from error


def _end_left_run(run_id: str, end: End | None) -> None:
    client = MlflowClient()
    if end is None:  # its end was its owner's
        return
    if end.status == "FINISHED" and FAILURE_TAG in client.get_run(run_id).data.tags:
        with permitted(f"run {run_id} keeps its tag {FAILURE_TAG}"):
            client.delete_tag(run_id, FAILURE_TAG)
    with _printing_no_password():
        client.set_terminated(run_id, end.status, end.end_time)


@contextmanager
def open_log(run_id: str, job: Job | None = None, *, owned: bool = False, continued: bool = False) -> Iterator[RunLog]:
    """Gives what writes to a run, and has everything delivered afterwards, however the block ends.

    Args:
        run_id: the run's.
        job: whose record goes first, so that a store of artifacts that cannot be used is told of before work begins.
        owned: whether the run, the active one, is to be ended.
        continued: whether the run has been written to before.

    Raises:
        UserError: the run, or where its artifacts are, cannot be written to.
        UndeliveredError: the server has not got everything.
    """
    failure: BaseException | None = None
    with ExitStack() as opened:
        try:
            opened.enter_context(quiet_databases())
            outbox = opened.enter_context(open_outbox(run_id, partial(deliver, run_id)))
            outbox.flush()  # what a killed process left is there before we look what is there
            run = MlflowClient().get_run(run_id)
            if job is not None:
                _try_store(run, job)
                told = STATUS_TAG in run.data.tags or not owned
                _begin(run, job, {STATUS_TAG: "RUNNING"} if told else {})
            take_failure_back(run)
            points = _points(run) if continued else set()
            log = RunLog(run, outbox, points, continued=continued, owned=owned)
        except BaseException as error:
            if owned:
                with briefly():
                    with suppress(Exception):  # the first error is worth more
                        MlflowClient().set_tag(run_id, FAILURE_TAG, one_line(error))
                    _end_run(_status(error))
            raise
        try:
            log.params(library_versions())
            yield log
            log.events()
        except BaseException as error:
            failure = error
            _log_failure(log, error)
            raise
        finally:
            _end(log, outbox, failure, owned=owned)


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


def _log_failure(log: RunLog, error: BaseException) -> None:
    tags = {} if _is_done(error) else {FAILURE_TAG: one_line(error)}
    try:
        log.tags(tags)
        log.events()
    except UserError:  # the outbox's disk is full; the first error is worth more than this one
        with suppress(Exception):
            for tag, value in tags.items():
                MlflowClient().set_tag(log.run_id, tag, value)


def _points(run: Run) -> set[Point]:
    """The metrics that a run has, but for those of the system, which MLflow counts on by itself."""
    client = MlflowClient()
    names = [name for name in run.data.metrics if not name.startswith("system/")]
    return {(name, point.step) for name in names for point in client.get_metric_history(run.info.run_id, name)}


def _end(log: RunLog, outbox: Outbox, failure: BaseException | None, *, owned: bool) -> None:
    """Has everything delivered and ends the run, or leaves both to `vjepa-mlflow upload`."""
    status = _status(failure)
    try:
        error: Exception | None = failure if isinstance(failure, UndeliveredError) else None
        if error is None or not outbox.is_blocked:  # else it has just been tried, and takes minutes each time
            error = outbox.flush() or (error if _is_done(failure) else None)
        if error is None and outbox.damage:
            error = DamagedError(outbox.folder, outbox.damage)
        if error is None:
            error = _end_run(status) if owned else None
    except KeyboardInterrupt:
        error = InterruptedError("interrupted before it had")
    if error is None:
        return
    outbox.close()
    if owned:
        outbox.leave_end(status)
        with briefly():
            with suppress(Exception, KeyboardInterrupt):
                MlflowClient().set_tag(log.run_id, FAILURE_TAG, reason(error))
            if _is_active(log.run_id):
                with suppress(KeyboardInterrupt):
                    _end_run("FAILED")  # without an answer it is the active one no more all the same
    undelivered = log.undelivered(error)
    if failure is None:
        raise KeyboardInterrupt(str(undelivered)) if isinstance(error, InterruptedError) else undelivered from error
    if not isinstance(failure, UndeliveredError):  # which says it already
        logger.warning(str(undelivered))


def _is_done(failure: BaseException | None) -> bool:
    """Whether the job itself has come to its end."""
    return failure is None or (isinstance(failure, UndeliveredError) and not isinstance(failure, UndeliveredPartError))


def _status(failure: BaseException | None) -> str:
    if _is_done(failure):
        return "FINISHED"
    return "KILLED" if isinstance(failure, KeyboardInterrupt) else "FAILED"


def _is_active(run_id: str) -> bool:
    run = mlflow.active_run()
    return run is not None and run.info.run_id == run_id


def _end_run(status: str) -> Exception | None:
    try:
        with _printing_no_password():
            mlflow.end_run(status)
    except Exception as error:
        return error
    return None


@contextmanager
def _printing_no_password() -> Iterator[None]:
    """Has MLflow not print where an ended run is to be seen, if a password stands in that."""
    if has_password(mlflow.get_tracking_uri()):
        with temporary_environment(MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.name, "true"):
            yield
    else:
        yield


def end_launched_run(reason: str, status: str) -> None:
    """Ends the run that was prepared for this process, as `mlflow run` does, where no job has got as far as to do so.

    Args:
        reason: to tag it with.
        status: FAILED or KILLED.
    """

    def end() -> None:
        with suppress(Exception):  # the error that led here is told all the same
            surrounding = surrounding_run()
            if surrounding is not None:
                _end_surrounding(surrounding, reason, status)

    with briefly(), quiet_databases():
        # In a thread: whatever keeps a database, it keeps no command that has ended.
        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        ending.join(2 * SECONDS_TO_CLOSE)


def _end_surrounding(surrounding: Surrounding, reason: str, status: str) -> None:
    if not (surrounding.is_for_us_to_end and surrounding.is_free):
        return
    if reason:
        MlflowClient().set_tag(surrounding.run_id, FAILURE_TAG, reason)
    with _printing_no_password():
        MlflowClient().set_terminated(surrounding.run_id, status)


@contextmanager
def briefly() -> Iterator[None]:
    """Has MLflow wait no longer for a server than whoever is about to leave."""
    seconds = str(SECONDS_TO_CLOSE)
    with (
        temporary_environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES.name, "0"),
        temporary_environment(MLFLOW_HTTP_REQUEST_TIMEOUT.name, seconds),
    ):
        yield
