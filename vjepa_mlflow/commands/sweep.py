"""The sweep: many heads on features that are encoded once, and the best of them as a logged model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread

from vjepa_mlflow import data, evaluation, model, search, tracking
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.cpus import thread_count
from vjepa_mlflow.runtime.energy import metering
from vjepa_mlflow.runtime.interrupts import gentle_interrupts
from vjepa_mlflow.runtime.ranks import check_alone
from vjepa_mlflow.search.assignment import Assignment
from vjepa_mlflow.search.best_model import BestModel
from vjepa_mlflow.search.pictures import draw_study, log_pictures
from vjepa_mlflow.search.setups import TrialSetups
from vjepa_mlflow.search.study_run import StudyRun, study_run
from vjepa_mlflow.search.trial_checkpoints import forget_checkpoints
from vjepa_mlflow.search.worker_pool import worker_pool
from vjepa_mlflow.stages.at_work import at_work
from vjepa_mlflow.stages.import_beside import import_beside
from vjepa_mlflow.stages.names import check_names
from vjepa_mlflow.stages.prepare import log_preparation
from vjepa_mlflow.stages.videos import log_unused

logger = get_logger(__name__)

SECONDS_TO_JOIN = 5
"""How long what adds trials beside the encoding is waited for."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to.

    Attributes:
        run_id: the MLflow run that holds the study.
        model_uri: the best trial's logged model, or the registered version where a name was given.
        best_trial: its number; the baseline's is 0.
        metrics: of its best epoch, and the test set's.
        summary: the baseline beside the best trial, as a table.
    """

    run_id: str
    model_uri: str
    best_trial: int
    metrics: dict[str, float]
    summary: str


@at_work("sweep")
def run_sweep(
    file: str | Path,
    recipe: Recipe,
    *,
    trials: int | None = None,
    workers: int = 1,
    study: str = "",
    storage: str = "",
) -> SweepResult:
    """Tries values of the recipe's fields, and logs the best trial's head as a model, tested once.

    A study that is there already goes on: trials that have ended are counted, interrupted ones are taken up again.
    The same call may run on several machines that share storage and tracking server.

    Args:
        file: what to search for, a YAML file as in `sweeps/`.
        recipe: the values of the first trial, and of the fields that are not searched in all trials.
        trials: how many are to end; None for as many as the file says.
        workers: processes on this machine, each on a GPU of its own where there are several.
        study: its name; by default that of the file and that of the data.
        storage: an Optuna RDB URL; by default an SQLite file beside MLflow's.

    Raises:
        UserError: something in the file, in the recipe or in what they name is not as expected.
        KeyboardInterrupt: it was asked to stop; the same call goes on.
    """
    check_alone("sweep")
    file = Path(file)
    plan = search.read_plan(file)
    count = plan.trials if trials is None else search.check_count("trials", trials)
    search.check_count("workers", workers)
    plan.space.baseline(recipe)
    listing = check_names(recipe)
    name = study or f"{file.stem}-{data.locate_data(recipe.data).resolve().stem}"
    with (
        study_run(file, plan, recipe, listing.samples, study=name, storage=storage) as run,
        metering(recipe.country) as meter,
        evaluation.painting("vjepa_mlflow.search.figures", "optuna.importance") as painter,
        model.cpu_threads(thread_count(processes=workers)),
    ):
        started = time.perf_counter()
        log_unused(run.log, listing)
        whole = Assignment.of(run, plan, recipe, count=count)
        own = whole.for_process(0, workers)
        queue = own.queue(run.shared)
        with own.setups(run.shared, run.log) as setups, BestModel(run, setups, painter, meter) as best_model:
            _end_left_runs(run.log, queue)
            try:
                _do_trials(run, whole, own, setups, queue, best_model)
            except BaseException:
                with suppress(Exception):  # the first error is the one to report
                    _log_pictures(run.log, queue, draw_study(run.log, painter, queue.trials(), plan))
                raise
            pictures = draw_study(run.log, painter, queue.trials(), plan)
            try:
                _end_left_runs(run.log, queue)
                forget_checkpoints(run.log.run_id, but={one.number for one in queue.all_trials() if not one.ended})
                logged = best_model.log(queue.trials(), plan.metric, own.recipe)
            finally:
                _log_pictures(run.log, queue, pictures)
        seconds = time.perf_counter() - started
        return SweepResult(
            run_id=run.log.run_id,
            model_uri=logged["model_uri"],
            best_trial=logged["best_trial"],
            metrics=logged["metrics"],
            summary=search.compare(queue.trials(), plan, seconds=seconds),
        )


def _end_left_runs(log: tracking.RunLog, queue: search.TrialQueue) -> None:
    tracking.end_left_runs(log.run_id, {trial.number: (trial.state, trial.failure) for trial in queue.trials()})


def _log_pictures(log: tracking.RunLog, queue: search.TrialQueue, pictures: dict[str, evaluation.Picture]) -> None:
    log_pictures(log, pictures, step=sum(trial.ended for trial in queue.trials()))


def _do_trials(
    run: StudyRun,
    whole: Assignment,
    own: Assignment,
    setups: TrialSetups,
    queue: search.TrialQueue,
    best_model: BestModel,
) -> None:
    """Encodes what trials read, and runs them, with the other processes of the command, until all have ended.

    Raises:
        KeyboardInterrupt: it was asked to stop.
    """
    if queue.is_done():
        logger.info("The study goes on: all its trials have ended")
        return
    with worker_pool(whole, own.share.world_size) as pool:
        _log_preparation(run.log, setups, own)
        with _filling(queue):
            setups.encode(own.encoded)
        if setups.lacks(own.encoded):
            pool.meet()
        if not {"model", "seed"} & set(own.plan.space.fields):
            best_model.backbone(own.encoded)
        pool.begin()
        import_beside()
        progress = search.TrialProgress(queue, own.plan)

        def look() -> None:
            pool.look()
            progress.look()

        notice = "Stopping after this epoch; once more stops at once"
        with gentle_interrupts(notice, forward_to=pool.process_ids) as stopping:
            try:
                own.runner(run.shared, setups, stopping=stopping, look=look).work()
                pool.wait()
                setups.finish()  # now, so that a full disk does not cost the best model
            finally:
                progress.close()
            if stopping():
                ended = sum(trial.ended for trial in queue.trials())
                raise KeyboardInterrupt(
                    f"interrupted: {ended} of {own.count} trials have ended; the same command goes on"
                )


def _log_preparation(log: tracking.RunLog, setups: TrialSetups, own: Assignment) -> None:
    """By itself, so that nothing holds this setup, and what it has of a GPU's memory, when another one is made."""
    log_preparation(log, replace(setups.setup(own.encoded).prepared, recipe=own.recipe))


@contextmanager
def _filling(queue: search.TrialQueue) -> Iterator[None]:
    """Adds trials to the study beside the block; what is not there at its end is left to whoever takes one."""
    done = Event()

    def fill() -> None:
        with suppress(Exception):  # which whoever takes the first meets as well
            queue.fill(done.is_set)

    thread = Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        queue.stop_waiting()
        raise
    finally:
        done.set()
        thread.join(SECONDS_TO_JOIN)  # one that waits for a storage, or a lock, adds nothing once it has it
