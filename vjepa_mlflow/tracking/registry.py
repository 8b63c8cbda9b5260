"""Versions of registered models, and their descriptions, tags and aliases."""

from collections.abc import Mapping
from contextlib import suppress

import mlflow
from mlflow import MlflowClient
from mlflow.data.dataset import Dataset
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import get_model_name_and_version

from vjepa_mlflow.tracking.answers import permitted

MODELS_SCHEME = "models:/"
LOGGED_MODEL = "models:/m-"
RUNS_SCHEME = "runs:/"

SEEN = "_seen_in_training"
"""What `seen_tag` makes of a split's name."""


def registered_version(model_uri: str) -> tuple[str, str] | None:
    """The registered model and the version that a URI names, also by an alias; None for any other model.

    Raises:
        MlflowException: there is no such model or alias.
    """
    if not model_uri.startswith(MODELS_SCHEME) or model_uri.startswith(LOGGED_MODEL):
        return None
    try:
        name, version = get_model_name_and_version(MlflowClient(), model_uri)
    except ValueError:  # no version is named
        return None
    return name, str(version)


def source_run(model_uri: str) -> str | None:
    """The run that logged the model of a URI, without fetching it; None where nothing names it."""
    client = MlflowClient()
    with suppress(MlflowException, ValueError):
        if model_uri.startswith(RUNS_SCHEME):
            return model_uri.removeprefix(RUNS_SCHEME).lstrip("/").partition("/")[0]
        if model_uri.startswith(LOGGED_MODEL):
            return client.get_logged_model(model_uri.removeprefix(MODELS_SCHEME)).source_run_id
        name, version = get_model_name_and_version(client, model_uri)
        return str(client.get_model_version(name, version).run_id)
    return None


def describe_version(name: str, version: str, description: str) -> None:
    """Sets the description of a registered version."""
    with permitted(f"models:/{name}/{version} has no description"):
        MlflowClient().update_model_version(name, version, description)


def tag_version(name: str, version: str, tags: Mapping[str, str]) -> None:
    """Tags a registered version; other tags of those names are replaced."""
    client = MlflowClient()
    with permitted(f"models:/{name}/{version} has no such figures as tags"):
        for tag, value in tags.items():
            client.set_model_version_tag(name, version, tag, value)


def evaluation_tags(
    metrics: Mapping[str, float], *, split: str, num_clips: int, dataset: Dataset, seen: str, run_id: str
) -> dict[str, str]:
    """The tags that hold the results of an evaluation; those of an earlier one on such a set have the same names.

    Args:
        metrics: by the names of the tags, which begin with the split's.
        split: that it was evaluated on.
        num_clips: of each video.
        dataset: the split's videos.
        seen: how many of them the model was trained or validated on, or `unknown`.
        run_id: the MLflow run of the evaluation.
    """
    clips = f"{num_clips} clip{'s' if num_clips > 1 else ''} a video"
    about = {
        evaluated_on_tag(split): f"{dataset.name} ({dataset.digest}), {clips}",
        seen_tag(split): seen,
        f"{split}_evaluation_run": run_id,
    }
    return {tag: str(value) for tag, value in {**metrics, **about}.items()}


def register_model(name: str, model_id: str) -> str:
    """Registers a logged model, once, and returns its version."""
    for version in MlflowClient().search_model_versions(f"name = '{name}'"):
        if version.model_id == model_id:
            return str(version.version)
    return str(mlflow.register_model(f"{MODELS_SCHEME}{model_id}", name).version)


def find_logged_model(run_id: str, tag: str, value: str) -> str | None:
    """The id of the model of a run that has a tag; deletes those whose logging broke off."""
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    for model in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        if model.status != LoggedModelStatus.READY:
            with permitted(f"run {run_id}: {model.model_id}, which was not logged whole, stays"):
                client.delete_logged_model(model.model_id)
        elif model.tags.get(tag) == value:
            return str(model.model_id)
    return None


def evaluated_on_tag(split: str) -> str:
    """The tag that says on which videos, and how, a version got the metrics of a split."""
    return f"{split}_evaluated_on"


def seen_tag(split: str) -> str:
    """The tag that says how many videos of a split a version was trained or validated on before it was evaluated."""
    return f"{split}{SEEN}"


def version_tags(name: str, version: str) -> dict[str, str]:
    """A registered version's tags."""
    return dict(MlflowClient().get_model_version(name, version).tags)


def alias_holder(name: str, alias: str) -> str | None:
    """The version that has an alias; None if none has."""
    version = MlflowClient().get_registered_model(name).aliases.get(alias)
    return None if version is None else str(version)


def move_alias(name: str, alias: str, version: str) -> None:
    """Gives a version an alias, and takes it from any other."""
    MlflowClient().set_registered_model_alias(name, alias, version)
