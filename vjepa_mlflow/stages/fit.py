"""Features to the best head of a run, told of epoch by epoch and stopped between two steps when asked to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vjepa_mlflow import features, tracking, training
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.temporary import temporary_folder
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.runtime.interrupts import gentle_interrupts
from vjepa_mlflow.stages.encode import EncodedSets
from vjepa_mlflow.stages.import_beside import import_beside
from vjepa_mlflow.stages.labelled_set import LabelledSet
from vjepa_mlflow.stages.pace import cache_pace
from vjepa_mlflow.stages.prepare import Preparation
from vjepa_mlflow.stages.training_run import TrainingRun

logger = get_logger(__name__)


@dataclass(frozen=True)
class TrainedHead:
    """The best head of a training, or of a sweep, before it is tested.

    Attributes:
        prepared: what it was trained with.
        source: of features.
        test_videos: that it is to be tested on.
        best: the head.
        epochs: the metrics of every epoch of its training.
        step: of the metrics that are logged of it from here on.
        trials: of the sweep that it is the best of; None if it is none.
    """

    prepared: Preparation
    source: features.FeatureSource
    test_videos: LabelledSet
    best: training.BestHead
    epochs: Sequence[dict[str, float]]
    step: int
    trials: int | None = None


def fit(run: TrainingRun, encoded: EncodedSets) -> TrainedHead:
    """Trains from the last checkpoint, or from the start.

    Raises:
        KeyboardInterrupt: it was asked to stop; the message says after which step.
        UserError: the loss is no number any more, or memory is too small.
    """
    prepared = encoded.prepared
    for step, metrics in enumerate(run.snapshot.epochs if run.snapshot else [], start=1):
        run.log.metrics(metrics, step=step)  # the run may have been stopped just before
    with gentle_interrupts("Stopping after this step; once more stops at once") as stopping:
        progress = _Progress(run, prepared.recipe.epochs, stopping)
        try:
            trained = training.fit(
                training.HeadPasses(prepared.head, precision=prepared.recipe.precision, form=prepared.forms.head_form),
                train=encoded.train,
                val=encoded.val,
                recipe=prepared.recipe,
                on_epoch=progress.end_epoch,
                on_step=progress.end_step,
                resume=run.snapshot,
            )
        except training.DivergedError as error:
            run.checkpoints.abandon()  # there is nothing to go on with
            raise _keep_best(run.log, error) from error
    _tell_waits(run.checkpoints.waits)
    if not run.log.continued:  # else epochs may be another machine's
        cache_pace(encoded, trained.epochs)
    best = trained.best
    # The test's metrics stand beside those of the best epoch.
    return TrainedHead(prepared, encoded.source, encoded.test_videos, best, trained.epochs, step=best.epoch)


class _Progress:
    """What is done between two steps, and after each epoch."""

    def __init__(self, run: TrainingRun, epochs: int, stopping: Callable[[], bool]):
        self._run, self._epochs, self._stopping = run, epochs, stopping
        self._is_first = True

    def end_epoch(self, state: training.TrainingState) -> None:
        epoch, metrics = len(state.epochs), state.epochs[-1]
        self._run.log.metrics(metrics, step=epoch)
        _tell_epoch(epoch, self._epochs, metrics)
        if self._is_first:
            import_beside()
            self._is_first = False
        self.end_step(state)

    def end_step(self, state: training.TrainingState) -> None:
        checkpoints = self._run.checkpoints
        checkpoints.offer(state)
        if self._stopping():
            checkpoints.save(state)
            checkpoints.finish_writing()
            raise KeyboardInterrupt(
                f"interrupted after step {state.steps}, with {len(state.epochs)} of {self._epochs} epochs done"
            )


def _tell_epoch(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
    logger.info(
        f"Epoch {epoch}/{epochs}  "
        f"train loss {metrics['train_loss']:.4f}  accuracy {metrics['train_accuracy']:.3f}  |  "
        f"validation loss {metrics['val_loss']:.4f}  accuracy {metrics['val_accuracy']:.3f}  |  "
        f"{metrics['clips_per_second']:.1f} clips/s"
    )


def _keep_best(log: tracking.RunLog, error: training.DivergedError) -> UserError:
    """Logs the best head of a training that led nowhere in the end, and says so."""
    if not error.state.epochs:
        return error
    file = tracking.HEAD_FILE
    with temporary_folder() as folder:
        error.state.save_best(folder / file)
        log.file(folder / file)
    return UserError(f"{error}; the best head so far, of epoch {error.state.best.epoch}, is the artifact {file}")


def _tell_waits(waits: Sequence[float]) -> None:
    if waits:
        most = f"{max(waits):.2f} s at most at once"
        logger.info(f"Checkpoints: training waited {sum(waits):.2f} s for {len(waits)}, {most}")
