"""The MLflow run of a training: a new one, or one that was stopped and goes on with what it has from before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property

from vjepa_mlflow import data, tracking, training
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.stages.checkpoints import Checkpoints
from vjepa_mlflow.stages.prepare import Resumed

logger = get_logger(__name__)

AUTO = "auto"


@dataclass(frozen=True)
class TrainingRun:
    """What a training logs to, and goes on with.

    Attributes:
        log: of the run.
        checkpoints: of the training.
        epochs: that there are to be.
    """

    log: tracking.RunLog
    checkpoints: Checkpoints
    epochs: int

    @cached_property
    def resumed(self) -> Resumed | None:
        """What the run has from before, where it goes on; None for a new one.

        Raises:
            UserError: it cannot be read any more.
        """
        if not self.log.continued:
            return None
        with suppress(tracking.UndeliveredError):  # which may yet be delivered, and tells at the end
            self.log.deliver()  # what an earlier process left
        beginning = tracking.read_beginning(self.log.run_id)
        if beginning is None and self.checkpoints.exist():
            raise UserError(
                f"resume={self.log.run_id}: it has a checkpoint, and no split.csv and labels.json that say of which "
                f"videos: expected them as its artifacts"
            )
        return Resumed(self.log.params_before, beginning)

    @cached_property
    def snapshot(self) -> training.Snapshot | None:
        """The state in which the run's training was stopped, which is told; None where it begins.

        Raises:
            UserError: it cannot be read any more.
        """
        if not self.log.continued:
            return None
        snapshot = self.checkpoints.read()
        if snapshot is None:
            logger.info("No step of its training was kept: it begins again")
        else:
            done = f"{len(snapshot.epochs)} of {self.epochs} epochs done"
            logger.info(f"Its training goes on after step {snapshot.steps}, with {done}")
        return snapshot

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Deletes the checkpoints after a block that logs the model, or that keeps it to be uploaded."""
        try:
            yield
        except tracking.UndeliveredError:  # and the model is kept, so that there is nothing to go on with
            self.checkpoints.forget()
            raise
        self.checkpoints.forget()


@contextmanager
def training_run(
    recipe: Recipe, samples: Sequence[data.Sample], *, resume: str, save_steps: int
) -> Iterator[TrainingRun]:
    """Gives a training its run, which ends with the block.

    Args:
        recipe: the values of the run.
        samples: the videos.
        resume: a run that goes on; `auto` for the last such one, if any; empty for a new one.
        save_steps: see `Checkpoints`.

    Raises:
        UserError: there is no such run, it is another one, or what it had kept cannot be read.
        KeyboardInterrupt: the block was asked to stop; the message says how it goes on.
    """
    definition = define(recipe, samples)
    job = tracking.Job.of("train", definition, asdict(recipe))
    run_id = _find_run(definition, resume) if resume else None
    with (
        tracking.resumed_log(run_id, job) if run_id else tracking.run_log(job) as log,
        tracking.resumable(log, definition),
        _told_how_it_goes_on(log.run_id),
        Checkpoints(log, every=save_steps) as checkpoints,
    ):
        log.params(asdict(recipe))
        if log.continued:
            logger.info(f"Run {log.run_id} goes on")
        yield TrainingRun(log, checkpoints, recipe.epochs)


def define(recipe: Recipe, samples: Sequence[data.Sample]) -> dict[str, str]:
    """What must be the same where a run goes on."""
    return {"data": data.describe_samples(samples), **recipe.training_fields()}


def _find_run(definition: Mapping[str, str], resume: str) -> str | None:
    tracking.wake_tracking()
    run_id = tracking.find_unfinished(definition) if resume == AUTO else resume
    if run_id is None:
        logger.info("No run of this recipe and data was stopped: a new one begins (resume=auto)")
        return None
    tracking.check_unfinished(run_id, definition)
    return run_id


@contextmanager
def _told_how_it_goes_on(run_id: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"{str(interrupt) or 'interrupted'}: the same command with --resume {run_id} (mlflow run: "
            f"-P resume={run_id}) goes on"
        ) from interrupt
