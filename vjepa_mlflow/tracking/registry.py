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


def tag_version(name: str, version: str, metrics: Mapping[str, float], *, dataset: Dataset, run_id: str) -> None:
    """Tags a registered version with what an evaluation found; those of an earlier one are replaced.

    Args:
        name: of the registered model.
        version: of it.
        metrics: by the names of the tags.
        dataset: that it was evaluated on.
        run_id: the MLflow run of the evaluation.
    """
    client = MlflowClient()
    about = {"evaluated_on": f"{dataset.name} ({dataset.digest})", "evaluation_run": run_id}
    for tag, value in {**metrics, **about}.items():
        client.set_model_version_tag(name, version, tag, str(value))
