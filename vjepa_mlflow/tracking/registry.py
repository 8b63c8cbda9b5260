"""Versions of registered models, and what is said of them."""

from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.data.dataset import Dataset
from mlflow.store.artifact.utils.models import get_model_name_and_version

MODELS_SCHEME = "models:/"
LOGGED_MODEL = "models:/m-"


def registered_version(model_uri: str) -> tuple[str, str] | None:
    """The registered model and the version that a URI names, also by an alias; None for any other model.

    Raises:
        MlflowException: there is no such model or alias.
    """
    if not model_uri.startswith(MODELS_SCHEME) or model_uri.startswith(LOGGED_MODEL):
        return None
    name, version = get_model_name_and_version(MlflowClient(), model_uri)
    return name, str(version)


def describe_version(name: str, version: str, description: str) -> None:
    """Sets the description of a registered version."""
    MlflowClient().update_model_version(name, version, description)


def tag_version(
    name: str,
    version: str,
    metrics: Mapping[str, float],
    *,
    split: str,
    num_clips: int,
    dataset: Dataset,
    run_id: str,
) -> None:
    """Tags a registered version with what an evaluation found; those of an earlier one on such a set are replaced.

    Args:
        name: of the registered model.
        version: of it.
        metrics: by the names of the tags, which begin with the split's.
        split: that it was evaluated on.
        num_clips: of each video.
        dataset: the split's videos.
        run_id: the MLflow run of the evaluation.
    """
    client = MlflowClient()
    clips = f"{num_clips} clip{'s' if num_clips > 1 else ''} a video"
    about = {evaluated_on_tag(split): f"{dataset.name} ({dataset.digest}), {clips}", f"{split}_evaluation_run": run_id}
    for tag, value in {**metrics, **about}.items():
        client.set_model_version_tag(name, version, tag, str(value))


def evaluated_on_tag(split: str) -> str:
    """The tag that says on which videos, and how, a version got the metrics of a split."""
    return f"{split}_evaluated_on"


def version_tags(name: str, version: str) -> dict[str, str]:
    """A registered version's tags."""
    return dict(MlflowClient().get_model_version(name, version).tags)


def alias_holder(name: str, alias: str) -> str | None:
    """The version that has an alias; None if none has."""
    held = MlflowClient().get_registered_model(name).aliases.get(alias)
    return None if held is None else str(held)


def move_alias(name: str, alias: str, version: str) -> None:
    """Gives a version an alias, and takes it from any other."""
    MlflowClient().set_registered_model_alias(name, alias, version)
