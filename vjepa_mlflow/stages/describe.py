"""What is said of a trained model wherever it goes: its card, its description, its tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vjepa_mlflow import evaluation, model, tracking
from vjepa_mlflow.runtime.energy import Usage, describe_hardware

if TYPE_CHECKING:
    from vjepa_mlflow.stages.assess import Assessment
    from vjepa_mlflow.stages.fit import TrainedHead


@dataclass(frozen=True)
class Publication:
    """What goes with a model.

    Attributes:
        stride: frames from one sampled frame to the next.
        precision: that it was trained in.
        step: of the run's metrics that are the model's as well.
        head: the digest of the head's weights.
        model_card: in Hugging Face's format.
        registered_model_name: to register it under; empty for no registration.
        description: of the registered version.
        tags: of the registered version.
        frames_per_second: how many are sampled of a second, instead of every stride-th; 0, as what an older version
            of the package kept: by stride.
    """

    stride: int
    precision: str
    step: int
    head: str
    model_card: str
    registered_model_name: str
    description: str
    tags: Mapping[str, str]
    frames_per_second: float = 0.0


def describe(log: tracking.RunLog, assessment: Assessment, trained: TrainedHead, usage: Usage) -> Publication:
    """Writes a model's card and description.

    Args:
        log: of the run.
        assessment: of the model.
        trained: its head.
        usage: of the run, time and energy.
    """
    record = _record(log, assessment, trained, usage)
    recipe = record.recipe
    return Publication(
        stride=recipe.stride,
        frames_per_second=recipe.frames_per_second,
        precision=recipe.precision,
        step=trained.step,
        head=model.weights_digest(trained.best.weights),
        model_card=evaluation.render_card(record, assessment.result),
        registered_model_name=recipe.registered_model_name,
        description=evaluation.summarize(record, assessment.result),
        tags=tracking.evaluation_tags(
            assessment.metrics,
            split="test",
            num_clips=1,
            dataset=record.datasets["test"],
            seen=record.seen,
            run_id=record.run_id,
        ),
    )


def _record(
    log: tracking.RunLog, assessment: Assessment, trained: TrainedHead, usage: Usage
) -> evaluation.TrainingRecord:
    from vjepa_mlflow.datasets import dataset_of_split

    prepared = trained.prepared
    recipe, dataset = prepared.recipe, prepared.dataset
    return evaluation.TrainingRecord(
        run_id=log.run_id,
        developer=log.user,
        recipe=recipe,
        checkpoint=prepared.checkpoint,
        architecture=prepared.backbone.architecture,
        parameters=prepared.parameters,
        labels=dataset.labels,
        datasets={split: dataset_of_split(samples, recipe.data, split) for split, samples in dataset.splits.items()},
        drawn=dataset.drawn,
        split_seed=dataset.seed,
        seen=assessment.tested.seen,
        epochs=trained.epochs,
        best_epoch=trained.best.epoch,
        usage=usage,
        trials=trained.trials,
        hardware=describe_hardware(),
        device=model.describe_device(prepared.backbone.device),
        versions=tracking.library_versions(),
    )
