"""Versions of registered models, and what is said of them."""

from collections.abc import Mapping

from mlflow import MlflowClient
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


def tag_version(name: str, version: str, tags: Mapping[str, object]) -> None:
    """Tags a registered version; tags of the same names are replaced."""
    client = MlflowClient()
    for tag, value in tags.items():
        client.set_model_version_tag(name, version, tag, str(value))
