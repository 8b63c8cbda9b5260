"""What this package uses of MLflow that MLflow does not document, but for its server's and its evaluators' parts.

MLflow's own flavours save and load models with these functions, and it has no public ones for a flavour of others.
Looked at in MLflow 3.4 and 3.17, of mlflow>=3.4,<4. Nothing of MLflow is imported before it is used.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mlflow.models import Model, ModelInputExample
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

SERVER_MODULE = "mlflow.pyfunc.scoring_server.app"
"""The module that MLflow's scoring server runs, by which its process is known: a model is not told who loads it."""

_STATUS = re.compile("(?:too many|failed with error code) ([0-9]{3}) ")


def status_in(message: str) -> int | None:
    """HTTP's status in what MLflow says of an answer that it has no code for, and urllib3 of one that it got each time.

    Neither keeps it otherwise.
    """
    match = _STATUS.search(message)
    return int(match[1]) if match else None


class EnvironmentFiles(NamedTuple):
    """The names of files in a model's folder that say what it needs."""

    conda: str
    python: str
    requirements: str
    constraints: str


def environment_files() -> EnvironmentFiles:
    """Those that MLflow looks for: it documents them, and has them as private constants alone."""
    from mlflow.utils.environment import (
        _CONDA_ENV_FILE_NAME,
        _CONSTRAINTS_FILE_NAME,
        _PYTHON_ENV_FILE_NAME,
        _REQUIREMENTS_FILE_NAME,
    )

    return EnvironmentFiles(
        _CONDA_ENV_FILE_NAME, _PYTHON_ENV_FILE_NAME, _REQUIREMENTS_FILE_NAME, _CONSTRAINTS_FILE_NAME
    )


class Environment(NamedTuple):
    """What a model needs: an environment as conda has it, its requirements, and constraints on them."""

    conda: dict[str, Any]
    requirements: list[str]
    constraints: list[str]


def check_environment(
    conda_env: dict[str, Any] | str | None,
    pip_requirements: list[str] | str | None,
    extra_pip_requirements: list[str] | str | None,
) -> None:
    """Refuses more than one of them, with the words of all flavours: there is no public check.

    Raises:
        ValueError: says so.
    """
    from mlflow.utils.environment import _validate_env_arguments

    _validate_env_arguments(conda_env, pip_requirements, extra_pip_requirements)


def read_conda_environment(conda_env: dict[str, Any] | str) -> Environment:
    """Reads an environment as users give it to any flavour, which only those have a function for."""
    from mlflow.utils.environment import _process_conda_env

    return Environment(*_process_conda_env(conda_env))


def read_requirements(
    defaults: list[str],
    pip_requirements: list[str] | str | None,
    extra_pip_requirements: list[str] | str | None,
) -> Environment:
    """Reads requirements as users give them to any flavour, which only those have a function for."""
    from mlflow.utils.environment import _process_pip_requirements

    return Environment(*_process_pip_requirements(defaults, pip_requirements, extra_pip_requirements))


def environment_of(requirements: list[str]) -> Environment:
    """The environment of requirements that are met here; MLflow's public functions look at all that is installed."""
    from mlflow.utils.environment import _mlflow_conda_env

    return Environment(_mlflow_conda_env(additional_pip_deps=requirements, install_mlflow=False), requirements, [])


def write_python_environment(path: Path) -> None:
    """Writes which Python this is, in a format that MLflow reads and has no public writer for."""
    from mlflow.utils.environment import _PythonEnv

    _PythonEnv.current().to_yaml(str(path))


def prepare_folder(path: Path) -> None:
    """Makes the folder of a model, or refuses one that holds something, with the error that all flavours raise.

    Raises:
        MlflowException: it holds something.
    """
    from mlflow.utils.model_utils import _validate_and_prepare_target_save_path

    _validate_and_prepare_target_save_path(str(path))


def save_example(model: "Model", example: "ModelInputExample", folder: Path) -> None:
    """Saves an example of a model's input beside it, as `Model.log` does for those that it logs itself."""
    from mlflow.models.utils import _save_example

    _save_example(model, example, str(folder))


def size_of(folder: Path) -> int | None:
    """Bytes of all files in a folder, as flavours write them into a model; MLflow's clients show that as its size."""
    from mlflow.utils.file_utils import get_total_file_size

    return get_total_file_size(folder)


def local_folder(uri: str) -> Path | None:
    """The folder that a URI of artifacts names, which MLflow alone knows how to read; None of another machine's."""
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    return Path(local_file_uri_to_path(uri)) if is_local_uri(uri) else None


def find_artifacts(uri: str) -> "tuple[ArtifactRepository, str]":
    """The store that a model's URI is in, and the path there.

    `mlflow.artifacts.download_artifacts` does not tell whether it would copy anything, and leaves its copy behind.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.tracking.artifact_utils import _get_root_uri_and_artifact_path

    root, path = _get_root_uri_and_artifact_path(uri)
    return get_artifact_repository(artifact_uri=root), path


def are_here(store: "ArtifactRepository") -> bool:
    """Whether a store's artifacts lie on this machine: stores of models' and runs' URIs do not say what is behind."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    while (behind := getattr(store, "repo", None)) is not None:
        store = behind
    return isinstance(store, LocalArtifactRepository)
