"""What a recipe names, looked at before anything that takes seconds to import."""

from __future__ import annotations

from vjepa_mlflow import data, model
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.energy import check_country


def check_names(recipe: Recipe) -> data.Listing:
    """Lists the videos that a recipe names, and refuses what else it names that is not there.

    For mistakes to be told at once: whatever can be known without PyTorch, transformers and MLflow comes first.

    Raises:
        UserError: something is not as expected; no run needs to begin.
    """
    check_country(recipe.country)
    model.check_name(recipe.model)
    listing = data.read_training_data(recipe.data, min_videos=recipe.min_videos)
    if recipe.device not in ("auto", "cpu"):
        model.choose_device(recipe.device)  # the last of them, since it imports PyTorch
    return listing
