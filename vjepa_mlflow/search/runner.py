"""The trials of a sweep, one after the other in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from optuna import TrialPruned

from vjepa_mlflow import data, features, model, search, tracking, training
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.cache import own_folder
from vjepa_mlflow.files.temporary import temporary_folder
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.cpus import thread_count
from vjepa_mlflow.runtime.ranks import Share
from vjepa_mlflow.stages.checkpoints import CheckpointClock
from vjepa_mlflow.stages.encode import encode
from vjepa_mlflow.stages.forms import Forms, choose_forms
from vjepa_mlflow.stages.prepare import Drawing, Fault, Preparation, check_names, prepare
from vjepa_mlflow.stages.threads import threads_of_run

logger = get_logger(__name__)

if TYPE_CHECKING:
    from torch import Tensor

PAUSE = 0.5
"""Seconds from one look for a trial to the next, where all are in other hands."""


@dataclass(frozen=True)
class TrialSetup:
    """What trials of one backbone and one set of features work with.

    Attributes:
        prepared: checked data and the model.
        source: of the features.
        passes: of the model's head, which every trial trains from the same beginning.
        forms: in which encoder and head compute.
        threads: that this process computes with, since the others need cores too.
        first_weights: that beginning.
    """

    prepared: Preparation
    source: features.FeatureSource
    passes: training.HeadPasses
    forms: Forms
    threads: int
    first_weights: dict[str, Tensor]


def checkpoints_of(run_id: str) -> Path:
    """The folder of the checkpoints of a sweep's trials, on this machine."""
    return own_folder("trials") / run_id


def forget_checkpoints(run_id: str, *, but: Collection[int]) -> None:
    """Deletes the checkpoints of a sweep's trials, and what killed processes have left beside them.

    Args:
        run_id: the sweep's.
        but: trials that may go on.
    """
    folder = checkpoints_of(run_id)
    for path in folder.glob("*"):
        if path.stem not in map(str, but):
            path.unlink(missing_ok=True)
    for empty in (folder, folder.parent):
        with suppress(OSError):  # there is none, or it is in use
            empty.rmdir()


class TrialSetups:
    """Gives a trial its bench: the last one's, unless its recipe has another backbone, other data or other features.

    Args:
        share: this process's, of what several prepare.
        trials: of the study.
        accumulation_sizes: sizes of window among them.
        params: of the study's run, where it goes on; None where it begins.
        began: what a study that goes on began with.
        drawing: how missing splits are drawn, the same for all trials, so that one validation set compares them.
        on_prepared: is given each data and model that trials are made with.
        on_faults: is given the videos that cannot be used.
    """

    def __init__(
        self,
        share: Share,
        *,
        trials: int,
        accumulation_sizes: int = 1,
        params: Mapping[str, str] | None,
        began: data.Beginning | None = None,
        drawing: Drawing | None = None,
        on_prepared: Callable[[Preparation], None] = lambda _: None,
        on_faults: Callable[[list[Fault]], None] = lambda _: None,
    ):
        self._share = share
        self._trials, self._accumulation_sizes, self._params = trials, accumulation_sizes, params
        self._began, self._drawing = began, drawing
        self._on_prepared = on_prepared
        self._on_faults = on_faults
        self._made_for: tuple[object, ...] = ()
        self._setup: TrialSetup | None = None

    def setup(self, recipe: Recipe) -> TrialSetup:
        """Where a recipe can be tried; its video checks and its model are made on first use.

        Raises:
            UserError: something that the recipe names is not as expected.
        """
        wanted = (recipe.data, recipe.model, recipe.seed, recipe.sampling(num_frames=1), recipe.precision)
        if self._setup is None or wanted != self._made_for:
            self.finish()
            self._setup = None  # first, so that its memory is free
            self._setup = self._make(recipe)
            self._made_for = wanted
        return self._setup

    def _make(self, recipe: Recipe) -> TrialSetup:
        prepared = prepare(
            recipe,
            check_names(recipe),
            began=self._began,
            drawing=self._drawing,
            on_faults=self._on_faults,
            share=self._share,
        )
        self._on_prepared(prepared)
        forms = choose_forms(
            prepared, recipe, trials=self._trials, accumulation_sizes=self._accumulation_sizes, resumed=self._params
        )
        source = features.FeatureSource(prepared.backbone, recipe, form=forms.encoder_form, again=True)
        threads = thread_count(prepared.clip_shape.values, self._share.world_size)
        first_weights = {name: value.clone() for name, value in prepared.head.state_dict().items()}
        passes = training.HeadPasses(prepared.head, precision=recipe.precision, form=forms.head_form)
        return TrialSetup(prepared, source, passes, forms, threads, first_weights)

    def lacks(self, recipe: Recipe) -> bool:
        """Whether any clip that a recipe reads is not encoded yet."""
        setup = self.setup(recipe)
        return bool(setup.source.missing(list(features.all_clips(setup.prepared.dataset, recipe))))

    def encode(self, recipe: Recipe) -> None:
        """Encodes this process's share of the clips that a recipe reads, or all where the processes share no store."""
        if recipe.cache == "off":
            return
        setup = self.setup(recipe)
        clips = list(features.all_clips(setup.prepared.dataset, recipe))
        share = self._share if recipe.cache == "disk" else Share()
        with model.cpu_threads(setup.threads):
            encode(setup.source, setup.source.affordable(share.of(clips)))
        if self._share.world_size > 1:  # which read what this one has kept
            self.finish()

    def finish(self) -> None:
        """Waits until what was encoded is kept.

        Raises:
            UserError: the store's disk is full.
        """
        if self._setup is not None:
            self._setup.source.finish()


class InterruptedTrial(Exception):  # noqa: N818, nothing is wrong
    """The process was asked to stop: the trial is to be taken up again later."""


@dataclass(frozen=True)
class TrialRunner:
    """Does trials of a study until all have ended, or until it is asked to stop.

    Attributes:
        queue: where the trials come from.
        plan: of the sweep.
        recipe: the values of the fields that are not searched.
        setups: where they are tried.
        run_id: the MLflow run that holds the study.
        stopping: whether to stop after the epoch.
        look: is called after each epoch, and while waiting for others.
    """

    queue: search.TrialQueue
    plan: search.SweepPlan
    recipe: Recipe
    setups: TrialSetups
    run_id: str
    stopping: Callable[[], bool]
    look: Callable[[], None]

    def work(self) -> None:
        while not self.stopping():
            running = self.queue.take_next()
            if running is not None:
                with (
                    suppress(search.TakenOverError, InterruptedTrial),
                    self.queue.working_on(running, self.stopping),
                ):
                    self._attempt(running)
            elif self.queue.is_done():
                return
            else:
                time.sleep(PAUSE)
            self.look()

    def _attempt(self, running: search.RunningTrial) -> None:
        """Has an attempt tell what it ends of: an error that may be the trial's own counts as its process's death."""
        self.queue.note_kept(running, 0)
        try:
            self._run(running)
        except search.TakenOverError:
            raise
        except tracking.DeletedRunError as error:
            self.queue.give_back(running)
            logger.warning(str(error))
        except BaseException as error:
            if _is_blameless(error):
                self.queue.give_back(running)
                raise
            cause = f"{type(error).__name__}: {one_line(error)}"
            self.queue.note_cause(running, cause)
            if not model.is_out_of_memory(error):
                raise
            logger.warning(f"Trial {running.number} has run out of memory ({cause})")

    def _run(self, running: search.RunningTrial) -> None:
        recipe = replace(self.recipe, **self.plan.space.suggest(running.trial))
        run_id = ""
        try:
            with tracking.trial_log(self.run_id, running.number) as log:
                run_id = log.run_id
                log.params(asdict(recipe))
                state = self._try_out(recipe, running, log)
        except BaseException:
            if run_id:
                tracking.leave_trial_run(run_id)
            raise
        if not state:
            raise search.TakenOverError
        tracking.end_trial_run(run_id, state)

    def _try_out(self, recipe: Recipe, running: search.RunningTrial, log: tracking.RunLog) -> str:
        """Trains a head, and logs how it went before the study hears of that: from then on nobody goes on with the run.

        Returns:
            How it went in Optuna's word; none where the trial, and so its run, has become another process's.
        """
        trial_training = _TrialTraining(self, recipe, running, log)
        try:
            state, tell = self._train_and_log(trial_training, running, log)
            log.events()
            log.deliver()
            tell()
        except search.TakenOverError:
            return ""
        trial_training.forget()
        return state

    def _train_and_log(
        self, trial_training: _TrialTraining, running: search.RunningTrial, log: tracking.RunLog
    ) -> tuple[str, Callable[[], None]]:
        """Returns how it went, and what tells the study of it."""
        try:
            trained = trial_training.run()
        except TrialPruned:
            seconds = trial_training.seconds()
            log.metrics(seconds, step=trial_training.epochs)
            return "PRUNED", lambda: self.queue.prune(running, seconds)
        except training.DivergedError as error:
            failure, seconds = str(error), trial_training.seconds()
            log.tags({tracking.FAILURE_TAG: failure})
            return "FAIL", lambda: self.queue.fail(running, failure, seconds)
        self._keep_if_best(trained, log)
        best = trained.best
        value = best.metrics[self.plan.metric]
        figures = {search.BEST_EPOCH: best.epoch, **trial_training.seconds()}
        log.metrics({f"best_{self.plan.metric}": value, **figures}, step=len(trained.epochs))
        return "COMPLETE", lambda: self.queue.complete(running, value, {search.METRICS: best.metrics, **figures})

    def _keep_if_best(self, trained: training.TrainingState, log: tracking.RunLog) -> None:
        """Logs the head, unless a completed trial was better: then it cannot be the best in the end."""
        metric = self.plan.metric
        leader = search.best_trial(self.queue.trials(), metric)
        known = None if leader is None else leader.frozen.user_attrs[search.METRICS]
        if known is None or training.rank(trained.best.metrics, metric) >= training.rank(known, metric):
            with temporary_folder() as folder:
                trained.save_best(folder / tracking.HEAD_FILE)
                log.file(folder / tracking.HEAD_FILE)


def _is_blameless(error: BaseException) -> bool:
    """Whether an attempt ends by no fault of its trial: by who asked to stop, or by a disk or a server."""
    from mlflow.exceptions import MlflowException
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    outside = (UserError, OSError, MlflowException, SQLAlchemyError, OptunaError)
    return isinstance(error, outside) or not isinstance(error, Exception) or isinstance(error, InterruptedTrial)


class _TrialTraining:
    """One attempt at a trial: its training, told of epoch by epoch, and begun where the last attempt left off."""

    def __init__(self, runner: TrialRunner, recipe: Recipe, running: search.RunningTrial, log: tracking.RunLog):
        self._runner, self._recipe, self._claim, self._log = runner, recipe, running, log
        self._checkpoint = checkpoints_of(runner.run_id) / f"{running.number}.safetensors"
        self._started = time.monotonic()
        self._clock = CheckpointClock()
        self._reports = ThreadPoolExecutor(1, "reports")
        self._report: Future[bool] | None = None
        self.epochs = 0

    def seconds(self) -> dict[str, float]:
        """How long the attempt has taken so far, by the name of that."""
        return {search.SECONDS: time.monotonic() - self._started}

    def run(self) -> training.TrainingState:
        """Trains from the last attempt's checkpoint, or from the start.

        Raises:
            TrialPruned: the study has no hope for it.
            InterruptedTrial: the process was asked to stop.
            DivergedError: the values led nowhere.
            TakenOverError: the trial is no longer this process's.
        """
        setup = self._runner.setups.setup(self._recipe)
        setup.passes.head.load_state_dict(setup.first_weights)
        dataset = setup.prepared.dataset
        with (
            self._reporting(),
            threads_of_run(self._log, setup.threads),
            model.matmul_precision(self._recipe.precision),
        ):
            trained = training.fit(
                setup.passes,
                train=features.TrainingSet(setup.source, dataset, self._recipe),
                val=features.EvaluationSet.of_split(setup.source, dataset, "val"),
                recipe=self._recipe,
                on_epoch=self._end_epoch,
                metric=self._runner.plan.metric,
                resume=self._left_off(),
            )
            self._tell(trained)  # of epochs that a checkpoint brought
        return trained

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Waits after the block for what is being told, but after an interrupt for no storage that is away."""
        with self._reports:
            try:
                yield
                self._await_report()
            except KeyboardInterrupt:
                self._runner.queue.stop_waiting()
                raise

    def _left_off(self) -> training.Snapshot | None:
        if not self._checkpoint.is_file():
            return None
        try:
            snapshot = training.read_snapshot(self._checkpoint)
        except UserError as error:
            logger.warning(f"{error}: the trial is begun again")
            return None
        self._runner.queue.note_kept(self._claim, len(snapshot.epochs))
        return snapshot

    def forget(self) -> None:
        """Deletes the checkpoint: the trial has ended."""
        self._checkpoint.unlink(missing_ok=True)

    def _end_epoch(self, state: training.TrainingState) -> None:
        hopeless = self._tell(state)
        self._runner.look()
        if len(state.epochs) == self._recipe.epochs:
            return
        if hopeless:
            raise TrialPruned
        stopping = self._runner.stopping()
        if stopping or self._clock.is_due():
            self._await_report()  # before a checkpoint has the epoch
            self._clock.begin()
            with suppress(OSError):  # without it the trial is only begun again
                state.snapshot().write(self._checkpoint)
                self._runner.queue.note_kept(self._claim, len(state.epochs))
            self._clock.end()
        if stopping:
            raise InterruptedTrial("it was interrupted: the sweep's command takes it up again")

    def _tell(self, state: training.TrainingState) -> bool:
        """Tells study and run of the epochs that they do not know yet. Returns whether to prune the trial.

        Where nothing is pruned they hear of it beside the next epoch, during which a GPU would else wait for a
        database.
        """
        hopeless = False
        for epoch, metrics in enumerate(state.epochs[self.epochs :], start=self.epochs + 1):
            self._await_report()
            self._report = self._reports.submit(self._tell_epoch, epoch, metrics)
            if self._runner.queue.prunes:
                hopeless = self._await_report()
        self.epochs = len(state.epochs)
        return hopeless

    def _tell_epoch(self, epoch: int, metrics: dict[str, float]) -> bool:
        hopeless = self._runner.queue.report(self._claim, epoch, metrics[self._runner.plan.metric])
        self._log.metrics(metrics, step=epoch)
        return hopeless

    def _await_report(self) -> bool:
        """Waits until the last epoch has been told. Returns whether to prune the trial."""
        return self._report is not None and self._report.result()
