"""One trial's training, begun where its last try left off, and stopped where its study or its user wants that."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from optuna import TrialPruned

from vjepa_mlflow import features, model, tracking, training
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.search.reports import EpochReports
from vjepa_mlflow.search.setups import TrialSetup
from vjepa_mlflow.stages.checkpoints import CheckpointClock
from vjepa_mlflow.stages.threads import threads_of_run

logger = get_logger(__name__)


class InterruptedTrial(Exception):  # noqa: N818, nothing is wrong
    """The process was asked to stop: the trial is to be taken up again later."""


class TrialTraining:
    """The training of a running trial.

    Args:
        recipe: the trial's.
        checkpoint: the file of the trial's checkpoint, which a retry goes on from.
        reports: of the trial's epochs.
        note_checkpoint: is told how many epochs the checkpoint has.
        stopping: whether to stop after the epoch.
        look: is called after each epoch.
    """

    def __init__(
        self,
        recipe: Recipe,
        checkpoint: Path,
        reports: EpochReports,
        *,
        note_checkpoint: Callable[[int], None],
        stopping: Callable[[], bool],
        look: Callable[[], None],
    ):
        self._recipe, self._checkpoint, self._reports = recipe, checkpoint, reports
        self._note_checkpoint, self._stopping, self._look = note_checkpoint, stopping, look
        self._clock = CheckpointClock()

    def run(self, setup: TrialSetup, log: tracking.RunLog, metric: str) -> training.TrainingState:
        """Trains from the last try's checkpoint, or from the start.

        Args:
            setup: where the recipe can be tried.
            log: of the trial's run.
            metric: what decides which epoch is the best.

        Raises:
            TrialPruned: the study has no hope for it.
            InterruptedTrial: the process was asked to stop.
            DivergedError: the values led nowhere.
            TakenOverError: the trial is no longer this process's.
        """
        setup.passes.head.load_state_dict(setup.first_weights)
        dataset = setup.prepared.dataset
        with (
            self._reports.reporting(),
            threads_of_run(log, setup.threads),
            model.matmul_precision(self._recipe.precision),
        ):
            trained = training.fit(
                setup.passes,
                train=features.TrainingSet(setup.source, dataset, self._recipe),
                val=features.EvaluationSet.of_split(setup.source, dataset, "val"),
                recipe=self._recipe,
                on_epoch=self._end_epoch,
                metric=metric,
                resume=self._read_checkpoint(),
            )
            self._reports.report(trained)  # of epochs that a checkpoint brought
        return trained

    def _read_checkpoint(self) -> training.Snapshot | None:
        if not self._checkpoint.is_file():
            return None
        try:
            snapshot = training.read_snapshot(self._checkpoint)
        except UserError as error:
            logger.warning(f"{error}: the trial is begun again")
            return None
        self._note_checkpoint(len(snapshot.epochs))
        return snapshot

    def _end_epoch(self, state: training.TrainingState) -> None:
        should_prune = self._reports.report(state)
        self._look()
        if len(state.epochs) == self._recipe.epochs:
            return
        if should_prune:
            raise TrialPruned
        stopping = self._stopping()
        if stopping or self._clock.is_due():
            self._reports.wait()  # before a checkpoint has the epoch
            self._write_checkpoint(state)
        if stopping:
            raise InterruptedTrial("it was interrupted: the sweep's command takes it up again")

    def _write_checkpoint(self, state: training.TrainingState) -> None:
        self._clock.begin()
        with suppress(OSError):  # without it the trial is only begun again
            state.snapshot().write(self._checkpoint)
            self._note_checkpoint(len(state.epochs))
        self._clock.end()
