"""The trials of a sweep, one after the other in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial

from optuna import TrialPruned

from vjepa_mlflow import model, search, tracking, training
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.temporary import temporary_folder
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.search.reports import EpochReports
from vjepa_mlflow.search.setups import TrialSetups
from vjepa_mlflow.search.trial_checkpoints import checkpoint_path
from vjepa_mlflow.search.trial_training import InterruptedTrial, TrialTraining

logger = get_logger(__name__)

PAUSE = 0.5
"""Seconds from one look for a trial to the next, where all of them run elsewhere."""


@dataclass(frozen=True)
class TrialRunner:
    """Runs trials of a study until all have ended, or until it is asked to stop.

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
                    self._run(running)
            elif self.queue.is_done():
                return
            else:
                time.sleep(PAUSE)
            self.look()

    def _run(self, running: search.RunningTrial) -> None:
        """Has a try note what it ends of: an error that may be the trial's own counts as its process's death."""
        self.queue.note_checkpoint(running, 0)
        try:
            self._run_with_log(running)
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

    def _run_with_log(self, running: search.RunningTrial) -> None:
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
        """Trains a head, and logs how it went before the study is told: from then on nobody goes on with the run.

        Returns:
            How it went in Optuna's word; none where the trial, and so its run, has become another process's.
        """
        try:
            state, end_trial = self._train_and_log(recipe, running, log)
            log.events()
            log.deliver()
            end_trial()
        except search.TakenOverError:
            return ""
        checkpoint_path(self.run_id, running.number).unlink(missing_ok=True)
        return state

    def _train_and_log(
        self, recipe: Recipe, running: search.RunningTrial, log: tracking.RunLog
    ) -> tuple[str, Callable[[], None]]:
        """Returns how it went, and what ends the trial in the study."""
        started = time.monotonic()
        reports = EpochReports(self.queue, running, log, self.plan.metric)

        def seconds() -> dict[str, float]:
            return {search.SECONDS: time.monotonic() - started}

        try:
            trained = self._train(recipe, running, log, reports)
        except TrialPruned:
            attributes = seconds()
            log.metrics(attributes, step=reports.epochs)
            return "PRUNED", lambda: self.queue.prune(running, attributes)
        except training.DivergedError as error:
            failure, attributes = str(error), seconds()
            log.tags({tracking.FAILURE_TAG: failure})
            return "FAIL", lambda: self.queue.fail(running, failure, attributes)
        self._keep_if_best(trained, log)
        best = trained.best
        value = best.metrics[self.plan.metric]
        figures = {search.BEST_EPOCH: best.epoch, **seconds()}
        log.metrics({f"best_{self.plan.metric}": value, **figures}, step=len(trained.epochs))
        return "COMPLETE", lambda: self.queue.complete(running, value, {search.METRICS: best.metrics, **figures})

    def _train(
        self, recipe: Recipe, running: search.RunningTrial, log: tracking.RunLog, reports: EpochReports
    ) -> training.TrainingState:
        trial_training = TrialTraining(
            recipe,
            checkpoint_path(self.run_id, running.number),
            reports,
            note_checkpoint=partial(self.queue.note_checkpoint, running),
            stopping=self.stopping,
            look=self.look,
        )
        return trial_training.run(self.setups.setup(recipe), log, self.plan.metric)

    def _keep_if_best(self, trained: training.TrainingState, log: tracking.RunLog) -> None:
        """Logs the head, unless a completed trial was better: then it cannot be the best in the end."""
        metric = self.plan.metric
        leader = search.best_trial(self.queue.trials(), metric)
        metrics = None if leader is None else leader.frozen.user_attrs[search.METRICS]
        if metrics is None or training.rank(trained.best.metrics, metric) >= training.rank(metrics, metric):
            with temporary_folder() as folder:
                trained.save_best(folder / tracking.HEAD_FILE)
                log.file(folder / tracking.HEAD_FILE)


def _is_blameless(error: BaseException) -> bool:
    """Whether a try ends by no fault of its trial: by who asked to stop, or by a disk or a server."""
    from mlflow.exceptions import MlflowException
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    outside = (UserError, OSError, MlflowException, SQLAlchemyError, OptunaError)
    return isinstance(error, outside) or not isinstance(error, Exception) or isinstance(error, InterruptedTrial)
