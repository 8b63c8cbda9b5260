"""How fast clips went through whole runs on this machine, noted for those who ask how long one takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vjepa_mlflow import data, model
from vjepa_mlflow.files.cache import cache_folder
from vjepa_mlflow.files.cached import cache_values, cached_values
from vjepa_mlflow.files.digest import sha256_of_text
from vjepa_mlflow.recipe import Recipe

if TYPE_CHECKING:
    from vjepa_mlflow.stages.encode import EncodedSets

ENOUGH = 16
"""Clips that must at least have been encoded for a pace to be one."""


class Pace(NamedTuple):
    """What is noted."""

    clips_per_second: float


def clip_count(dataset: data.VideoDataset, recipe: Recipe) -> int:
    """How many clips a run reads, each counted once."""
    sizes = {split: len(samples) for split, samples in dataset.splits.items()}
    return recipe.distinct_views * sizes["train"] + sizes["val"] + sizes["test"]


def cache_pace(encoded: EncodedSets, epochs: Sequence[Mapping[str, float]]) -> None:
    """Notes the clips a second of a training, if it surely had to encode nearly all that it was trained on.

    Args:
        encoded: the sets of the training; some of the clips that had to be encoded may be validated on.
        epochs: the metrics of every epoch.
    """
    prepared = encoded.prepared
    recipe, sizes = prepared.recipe, {split: len(samples) for split, samples in prepared.dataset.splits.items()}
    count, seconds = encoded.source.encoded, encoded.seconds
    trained = recipe.distinct_views * sizes["train"]
    if recipe.cache == "disk" and count - sizes["val"] >= max(ENOUGH, 0.9 * trained):
        paces = [metrics["clips_per_second"] for metrics in epochs[: recipe.distinct_views]]
        seconds += sum(sizes["train"] / pace for pace in paces)
        cache_values(_cache_path(recipe), Pace(trained / seconds)._asdict(), within=_folder())


def known_pace(recipe: Recipe) -> float | None:
    """Clips a second in the last training with the recipe's model and precision; None where there was none."""
    pace = cached_values(_cache_path(recipe), Pace)
    return None if pace is None else pace.clips_per_second


def _cache_path(recipe: Recipe) -> Path:
    name = model.choose(recipe.model, demo=recipe.data == data.DEMO)
    return _folder() / sha256_of_text(f"{name} {recipe.precision}")


def _folder() -> Path:
    return cache_folder() / "pace"
