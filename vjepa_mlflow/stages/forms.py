"""In which form a run's encoder and head compute: compiled only where that takes less time in all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from vjepa_mlflow import data, features, model, training
from vjepa_mlflow.recipe import Recipe


@dataclass(frozen=True)
class Forms:
    """As a run's parameters name them.

    Attributes:
        encoder_form: see `features.choose_form`.
        head_form: see `training.choose_head_form`.
    """

    encoder_form: str
    head_form: str

    def params(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Workload:
    """How many heads are trained on the same features.

    Attributes:
        trials: so many.
        accumulation_sizes: see `training.choose_head_form`.
    """

    trials: int = 1
    accumulation_sizes: int = 1


def choose_forms(
    opened: model.OpenedCheckpoint,
    dataset: data.VideoDataset,
    recipe: Recipe,
    *,
    workload: Workload,
    resumed: Mapping[str, str],
) -> Forms:
    """Chooses the forms by how much there is to compute, or keeps those that a run or study began with.

    Args:
        opened: backbone and head.
        dataset: that is encoded, and trained on.
        recipe: of the run, or of the trials.
        workload: how many trainings there will be.
        resumed: the parameters of the run that goes on; empty where none does.
    """
    if "checkpoint_revision" in resumed:  # logged together with the forms, of which older versions had but one
        resumed = {"encoder_form": model.LEAN, "head_form": model.LEAN, **resumed}
    clips = features.all_clips(dataset, recipe)
    trained = workload.trials * recipe.epochs * len(dataset.splits["train"])
    return Forms(
        features.choose_form(opened.backbone, recipe, clips, resumed=resumed.get("encoder_form")),
        training.choose_head_form(
            opened.head,
            recipe,
            clips=trained,
            accumulation_sizes=workload.accumulation_sizes,
            resumed=resumed.get("head_form"),
        ),
    )
