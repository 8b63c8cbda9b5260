"""The main command: from labelled videos to a logged model."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa_mlflow import evaluation, model
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.cpus import thread_count
from vjepa_mlflow.runtime.energy import metering
from vjepa_mlflow.runtime.ranks import check_alone
from vjepa_mlflow.stages.assess import assess
from vjepa_mlflow.stages.at_work import at_work
from vjepa_mlflow.stages.encode import encode
from vjepa_mlflow.stages.fit import fit
from vjepa_mlflow.stages.names import check_names
from vjepa_mlflow.stages.prepare import log_preparation, prepare
from vjepa_mlflow.stages.publish import backbone_beside, publish
from vjepa_mlflow.stages.test import test
from vjepa_mlflow.stages.threads import threads_of_run
from vjepa_mlflow.stages.training_run import training_run
from vjepa_mlflow.stages.videos import log_unused


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Attributes:
        run_id: the MLflow run.
        model_uri: the logged model, or the registered version where a name was given.
        best_epoch: whose head the model has, counted from 1.
        metrics: that epoch's, the test set's, and those of the run's time and energy.
    """

    run_id: str
    model_uri: str
    best_epoch: int
    metrics: dict[str, float]


@at_work("train")
def train(recipe: Recipe, *, resume: str = "", save_steps: int = 0) -> TrainingResult:
    """Trains the head of a frozen V-JEPA 2 on labelled videos and logs everything worth keeping to MLflow.

    Args:
        recipe: the values of the run.
        resume: an MLflow run that was stopped and goes on, with the same recipe and data; `auto` for the last such one
            of the experiment, or a new one where there is none; empty for a new one.
        save_steps: optimizer steps from one checkpoint to the next, besides those that are due, see
            `CheckpointClock`; 0 for none.

    Raises:
        UserError: something in the recipe or in what it names is not as expected.
        UndeliveredError: the tracking server has not taken everything.
        KeyboardInterrupt: it was asked to stop; the message says how it goes on.
    """
    check_alone("train")
    if save_steps < 0:
        raise UserError(f"save_steps={save_steps}: expected a whole number of at least 0")
    listing = check_names(recipe)
    with (
        evaluation.painting() as painter,
        training_run(recipe, listing.samples, resume=resume, save_steps=save_steps) as run,
        metering(recipe.country) as meter,
        model.matmul_precision(recipe.precision),
    ):
        prepared = prepare(recipe, listing, log=run.log, resumed=run.resumed)
        log_unused(run.log, listing)
        log_preparation(run.log, prepared)
        with (
            threads_of_run(run.log, thread_count(prepared.clip_shape.values)),
            backbone_beside(prepared) as backbone,
            run.ending(),
            encode(prepared, run.snapshot) as encoded,
        ):
            trained = fit(run, encoded)
            tested = test(run.log, trained)
            assessment = assess(run.log, painter, tested)
            usage = meter.read()
            model_uri = publish(run.log, assessment, backbone=backbone, usage=usage)
    metrics = {**trained.best.metrics, **assessment.metrics, **usage.metrics()}
    return TrainingResult(run.log.run_id, model_uri, trained.best.epoch, metrics)
