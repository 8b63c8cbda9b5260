"""The sweep: many heads on features that are encoded once, and the best of them as a logged model."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

from vjepa_mlflow import data, evaluation, model, search, tracking, training
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.temporary import temporary_folder
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.cpus import thread_count
from vjepa_mlflow.runtime.energy import Meter, metering
from vjepa_mlflow.runtime.interrupts import gentle_interrupts
from vjepa_mlflow.runtime.ranks import check_alone
from vjepa_mlflow.search.runner import PAUSE, forget_checkpoints
from vjepa_mlflow.search.worker_pool import Assignment, worker_pool
from vjepa_mlflow.secrets import has_password
from vjepa_mlflow.stages.at_work import at_work
from vjepa_mlflow.stages.finish import backbone_beside, finish, import_beside, test_videos
from vjepa_mlflow.stages.prepare import check_names, log_faults, log_preparation, log_unused

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
    file: Path, recipe: Recipe, *, trials: int | None = None, workers: int = 1, study: str = "", storage: str = ""
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
    plan = search.read_plan(file)
    count = plan.trials if trials is None else search.check_count("trials", trials)
    search.check_count("workers", workers)
    plan.space.baseline(recipe)
    listing = check_names(recipe)
    import mlflow  # no sooner, so that mistakes are told at once

    name = study or f"{file.stem}-{data.locate_data(recipe.data).resolve().stem}"
    tracking_uri = mlflow.get_tracking_uri()
    shared = search.SharedStudy(storage or search.default_storage(tracking_uri), name, tracking_uri=tracking_uri)
    tracking.wake_tracking()
    _warn_of_password(storage)
    with shared.answering():
        is_new = shared.create(plan, search.define(plan, recipe, listing.samples))
        run_id = None if is_new else shared.wait_for_run()
        if run_id:
            _check_sampler(plan, name, tracking.study_params(run_id, name))
        job = tracking.Job("sweep", uuid.uuid4().hex, file.name, file.read_text(encoding="utf-8"))
        with (
            tracking.resumed_log(run_id, job) if run_id else tracking.run_log(job, name=name) as log,
            metering(recipe.country) as meter,
            evaluation.painting("vjepa_mlflow.search.figures", "optuna.importance") as painter,
            _going_on(),
        ):
            if run_id is None:
                shared.set_run_id(log.run_id)
            shared.hold(log.run_id)
            began = None if is_new else tracking.read_beginning(log.run_id)
            _check_order(plan, began)
            _log_plan(log, shared, plan, recipe)
            log_unused(log, listing)
            whole = Assignment(
                plan=plan,
                recipe=recipe,
                encoded=replace(recipe, epochs=plan.space.most("epochs", recipe)),
                count=count,
                storage=shared.url,
                study=name,
                run_id=log.run_id,
                tracking_uri=tracking_uri,
                params=None if is_new else dict(log.params_before),
                began=began,
            )
            own = whole.for_process(0, workers)
            return _Sweep(log, shared, own, whole, meter, painter).run()


def _warn_of_password(storage: str) -> None:
    """Says that `mlflow run` has kept a password, as it does with all parameters, before we could do anything."""
    if os.environ.get("MLFLOW_RUN_ID") and has_password(storage):
        logger.warning(
            "storage holds a password, which mlflow run prints and keeps as a parameter of the run: a storage URL "
            "needs none where PGPASSWORD or ~/.pgpass has it, and vjepa-mlflow sweep by itself keeps none"
        )


@contextmanager
def _going_on() -> Iterator[None]:
    """Has an interrupt of the block say that nothing is lost, where it says nothing else."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(str(interrupt) or "interrupted: the same command goes on") from interrupt


def _check_sampler(plan: search.SweepPlan, study: str, known: Mapping[str, str]) -> None:
    """Refuses another sampler for a study of which only its run says which one it has."""
    before = known.get("sampler", plan.sampler.name)
    if before != plan.sampler.name:
        raise UserError(
            f"study={study}: its run has sampler: {before}; here it is {plan.sampler.name}: expected the same, or "
            f"another name (--study)"
        )


def _check_order(plan: search.SweepPlan, began: data.Beginning | None) -> None:
    """Refuses a study that was begun when not all of its trials had the same splits."""
    changed = [name for name in ("seed", "model") if name in plan.space.fields]
    if began is not None and began.order != data.ORDER and changed:
        raise UserError(
            f"run {began.run_id}: its study searches {' and '.join(changed)}, for each value of which the version that "
            f"began it drew other splits: expected a new one (--study)"
        )


def _log_plan(log: tracking.RunLog, shared: search.SharedStudy, plan: search.SweepPlan, recipe: Recipe) -> None:
    fixed = {name: value for name, value in asdict(recipe).items() if name not in plan.space.fields}
    searched = {
        f"search_{dimension.field}": f"{dimension}, from {getattr(recipe, dimension.field)}" for dimension in plan.space
    }
    baseline = {"baseline_model": recipe.model} if "model" in plan.space.fields else {}
    log.params(
        {**fixed, **baseline, **searched, "metric": plan.metric, "study": shared.name, "sampler": plan.sampler.name}
    )


class _Sweep:
    """One process's part in a study, from its trials to the best head."""

    def __init__(
        self,
        log: tracking.RunLog,
        shared: search.SharedStudy,
        assignment: Assignment,
        whole: Assignment,
        meter: Meter,
        painter: evaluation.Painter,
    ):
        self._log, self._shared, self._whole, self._meter, self._painter = log, shared, whole, meter, painter
        self._assignment, self._plan, self._recipe = assignment, assignment.plan, assignment.recipe
        self._setups = assignment.setups(shared, lambda faults: log_faults(log, faults))
        self._queue = assignment.queue(shared)
        self._beside = ExitStack()
        self._backbones: dict[tuple[str, int], model.WriteBackbone] = {}
        self._started = time.perf_counter()

    def run(self) -> SweepResult:
        with self._beside, model.cpu_threads(thread_count(processes=self._assignment.share.world_size)):
            return self._run()

    def _run(self) -> SweepResult:
        self._end_left_runs()
        try:
            if self._queue.is_done():
                logger.info("The study goes on: all its trials have ended")
            else:
                self._do_trials()
        except BaseException:
            with suppress(Exception):  # the first error is the one to report
                self._log_pictures(self._draw_study())
            raise
        pictures = self._draw_study()
        try:
            self._end_left_runs()
            unended = {trial.number for trial in self._queue.all_trials() if not trial.ended}
            forget_checkpoints(self._log.run_id, but=unended)
            result = self._make_best_model()
        finally:
            self._log_pictures(pictures)
        trials = self._queue.trials()
        return SweepResult(
            run_id=self._log.run_id,
            model_uri=result["model_uri"],
            best_trial=result["best_trial"],
            metrics=result["metrics"],
            summary=search.compare(trials, self._plan, seconds=time.perf_counter() - self._started),
        )

    def _end_left_runs(self) -> None:
        ended = {trial.number: (trial.state, trial.failure) for trial in self._queue.trials()}
        tracking.end_left_runs(self._log.run_id, ended)

    def _do_trials(self) -> None:
        with worker_pool(self._whole, self._assignment.share.world_size) as pool:
            self._log_preparation()
            with self._filling_queue():
                self._setups.encode(self._assignment.encoded)
            if self._setups.lacks(self._assignment.encoded):
                pool.meet()
            if not {"model", "seed"} & set(self._plan.space.fields):
                self._backbone(self._assignment.encoded)
            pool.begin()
            import_beside()
            progress = search.TrialProgress(self._queue, self._plan)

            def look() -> None:
                pool.look()
                progress.look()

            notice = "Stopping after this epoch; once more stops at once"
            with gentle_interrupts(notice, forward_to=pool.process_ids) as stopping:
                try:
                    self._assignment.runner(self._shared, self._setups, stopping=stopping, look=look).work()
                    pool.wait()
                    self._setups.finish()  # now, so that a full disk does not cost the best model
                finally:
                    progress.close()
                if stopping():
                    ended = sum(trial.ended for trial in self._queue.trials())
                    raise KeyboardInterrupt(
                        f"interrupted: {ended} of {self._assignment.count} trials have ended; the same command goes on"
                    )

    @contextmanager
    def _filling_queue(self) -> Iterator[None]:
        """Adds trials to the study beside the block; what is not there at its end is left to whoever takes one."""
        done = Event()

        def fill() -> None:
            with suppress(Exception):  # which whoever takes the first meets as well
                self._queue.fill(done.is_set)

        thread = Thread(target=fill, daemon=True)
        thread.start()
        try:
            yield
        except KeyboardInterrupt:
            self._queue.stop_waiting()
            raise
        finally:
            done.set()
            thread.join(SECONDS_TO_JOIN)  # one that waits for a storage, or a lock, adds nothing once it has it

    def _log_preparation(self) -> None:
        """By itself, so that nothing holds this bench, and what it has of a GPU's memory, when another one is made."""
        setup = self._setups.setup(self._assignment.encoded)
        log_preparation(self._log, setup.prepared, self._recipe, forms=setup.forms.params())

    def _draw_study(self) -> dict[str, evaluation.Picture]:
        """Logs the table of trials, and begins to draw the pictures, as far as the study has come."""
        trials, plan = self._queue.trials(), self._plan
        if not any(trial.ended for trial in trials):
            return {}
        self._log.table(search.trial_rows(trials, plan), "trials.csv")
        plots = {
            "optimization_history": search.plot_history,
            "search_space": search.plot_pair,
            "intermediate_values": search.plot_epochs,
            "param_importances": search.plot_importances,
        }
        return {name: self._painter.begin(plot, trials, plan) for name, plot in plots.items()}

    def _log_pictures(self, pictures: Mapping[str, evaluation.Picture]) -> None:
        step = sum(trial.ended for trial in self._queue.trials())
        for name, picture in pictures.items():
            self._log.png(picture.png(), f"{name}.png", step=step)

    def _make_best_model(self) -> Mapping[str, Any]:
        """Has one of the processes that share the study test and log the best head, and tells what came of it."""
        trials = self._queue.trials()
        best = search.best_trial(trials, self._plan.metric)
        if best is None:
            raise UserError(
                f"study={self._shared.name}: none of its {len(trials)} trials was completed: see trials.csv"
            )
        registered = self._recipe.registered_model_name
        task = self._shared.once(f"best of {len(trials)}" + (f" as {registered}" if registered else ""))
        while not task.is_done():
            running = task.take_next()
            if running is None:
                time.sleep(PAUSE)
                continue
            with suppress(search.TakenOverError), task.working_on(running):
                metrics, model_uri = self._test_and_log(best, step=len(trials))
                attributes = {"model_uri": model_uri, "best_trial": best.number, "metrics": metrics}
                task.complete(running, metrics["test_accuracy"], attributes)
        return task.trials()[0].frozen.user_attrs

    def _test_and_log(self, trial: search.SweepTrial, *, step: int) -> tuple[dict[str, float], str]:
        recipe = replace(self._recipe, **trial.frozen.params)
        setup = self._setups.setup(recipe)
        backbone = self._backbone(recipe)
        setup.passes.forget()  # whose memory the test has
        with model.cpu_threads(setup.threads), model.matmul_precision(recipe.precision):
            best, epochs = self._fetch_head(trial)
            self._log.tags(
                {"best_trial": trial.number, **{f"best_{name}": value for name, value in trial.frozen.params.items()}}
            )
            self._log.metrics({**best.metrics, search.BEST_EPOCH: best.epoch}, step=step)
            model_uri, tested = finish(
                self._log,
                self._painter,
                setup.prepared,
                recipe,
                source=setup.source,
                videos=test_videos(setup.prepared, recipe),
                best=best,
                backbone=backbone,
                epochs=epochs,
                meter=self._meter,
                step=step,
                trials=step,
            )
        return {**best.metrics, **tested}, model_uri

    def _backbone(self, recipe: Recipe) -> model.WriteBackbone:
        """What the best head is logged with; from the first call on it is written while something else is done."""
        made_for = recipe.model, recipe.seed
        if made_for not in self._backbones:
            prepared = self._setups.setup(recipe).prepared
            self._backbones[made_for] = self._beside.enter_context(backbone_beside(prepared, recipe))
        return self._backbones[made_for]

    def _fetch_head(self, trial: search.SweepTrial) -> tuple[training.BestHead, list[dict[str, float]]]:
        run_id = tracking.trial_run_id(self._log.run_id, trial.number)
        with temporary_folder() as folder:
            return training.load_best(tracking.download(run_id, tracking.HEAD_FILE, folder))
