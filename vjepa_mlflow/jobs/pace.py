"""How fast clips went through whole runs on this machine, noted for those who ask how long one takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import harmonic_mean
from typing import NamedTuple

from vjepa_mlflow import data, model
from vjepa_mlflow.cache import cache_folder
from vjepa_mlflow.digest import sha256_of_text
from vjepa_mlflow.kept import read_note, write_note
from vjepa_mlflow.recipe import Recipe

ENOUGH = 16
"""Clips that must at least have been encoded for a pace to be one."""


class Pace(NamedTuple):
    """What is noted."""

    clips_per_second: float


def clip_count(dataset: data.VideoDataset, recipe: Recipe) -> int:
    """How many clips a run reads, each counted once."""
    sizes = {split: len(samples) for split, samples in dataset.splits.items()}
    return recipe.distinct_views * sizes["train"] + sizes["val"] + sizes["test"]


def note_pace(
    recipe: Recipe, dataset: data.VideoDataset, *, encoded: int, epochs: Sequence[Mapping[str, float]]
) -> None:
    """Notes the clips a second of a training, if it surely had to encode nearly all that it was trained on.

    Args:
        recipe: of the training.
        dataset: that it was trained on.
        encoded: clips that it had to encode, some of which it may have validated on.
        epochs: the metrics of every epoch.
    """
    trained = recipe.distinct_views * len(dataset.splits["train"])
    if recipe.cache == "disk" and encoded - len(dataset.splits["val"]) >= max(ENOUGH, 0.9 * trained):
        # Of all epochs that encoded: the first one alone has all that starting takes.
        pace = harmonic_mean([metrics["clips_per_second"] for metrics in epochs[: recipe.distinct_views]])
        write_note(_note(recipe), Pace(pace)._asdict(), within=_folder())


def known_pace(recipe: Recipe) -> float | None:
    """Clips a second in the last training with the recipe's model and precision; None where there was none."""
    found = read_note(_note(recipe), Pace)
    return None if found is None else found.clips_per_second


def _note(recipe: Recipe) -> Path:
    name = model.choose(recipe.model, demo=recipe.data == data.DEMO)
    return _folder() / sha256_of_text(f"{name} {recipe.precision}")


def _folder() -> Path:
    return cache_folder() / "pace"
