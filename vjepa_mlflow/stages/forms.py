"""In which form a run's encoder and head compute: compiled only where that takes less time in all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from vjepa_mlflow import features, model, training
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.stages.prepare import Preparation


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


def choose_forms(
    prepared: Preparation,
    recipe: Recipe,
    *,
    trials: int = 1,
    accumulation_sizes: int = 1,
    resumed: Mapping[str, str] | None = None,
) -> Forms:
    """Chooses the forms by how much there is to compute, or keeps those that a run or study began with.

    Args:
        prepared: what is trained.
        recipe: of the run, or of the trials.
        trials: so many heads are trained.
        accumulation_sizes: see `training.choose_head_form`.
        resumed: the parameters of the run that goes on; None where none does.
    """
    kept = resumed or {}
    if "checkpoint_revision" in kept:  # logged together with the forms, of which there was but one in older versions
        kept = {"encoder_form": model.LEAN, "head_form": model.LEAN, **kept}
    clips = features.all_clips(prepared.dataset, recipe)
    trained = trials * recipe.epochs * len(prepared.dataset.splits["train"])
    return Forms(
        features.choose_form(prepared.backbone, recipe, clips, resumed=kept.get("encoder_form")),
        training.choose_head_form(
            prepared.head, recipe, clips=trained, accumulation_sizes=accumulation_sizes, resumed=kept.get("head_form")
        ),
    )
