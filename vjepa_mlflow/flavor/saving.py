"""Classifiers to saved and logged MLflow models."""

import errno
import importlib.metadata
import importlib.resources
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import yaml
from mlflow import pyfunc
from mlflow.environment_variables import MLFLOW_LOCK_MODEL_DEPENDENCIES
from mlflow.models import Model, ModelInputExample, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME, ModelInfo
from mlflow.models.utils import _save_example
from mlflow.utils.environment import (
    _CONDA_ENV_FILE_NAME,
    _CONSTRAINTS_FILE_NAME,
    _PYTHON_ENV_FILE_NAME,
    _REQUIREMENTS_FILE_NAME,
    _mlflow_conda_env,
    _process_conda_env,
    _process_pip_requirements,
    _PythonEnv,
    _validate_env_arguments,
)
from mlflow.utils.file_utils import get_total_file_size, local_file_uri_to_path, write_to
from mlflow.utils.model_utils import _validate_and_prepare_target_save_path
from mlflow.utils.uri import is_local_uri

from vjepa_mlflow.errors import is_full
from vjepa_mlflow.flavor.config import ServingConfig
from vjepa_mlflow.flavor.packing import CODE_FOLDER, pack
from vjepa_mlflow.flavor.saved_format import (
    CHECKPOINT_FOLDER,
    FLAVOR_NAME,
    FORMAT_VERSION,
    LOADER_MODULE,
    MODEL_CARD,
)
from vjepa_mlflow.flavor.saved_model import check_sampling
from vjepa_mlflow.flavor.signature import default_signature

if TYPE_CHECKING:
    from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

    from vjepa_mlflow.data import SeenVideos
    from vjepa_mlflow.model import Trained

EXAMPLE = "example.mp4"
"""In this folder."""

_REQUIRED = ("av", "mlflow", "numpy", "pandas", "torch", "torchvision", "tqdm", "transformers")


def get_default_pip_requirements() -> list[str]:
    """The installed versions of what a saved model needs, pinned; local parts such as `+cu130` are left out."""
    return [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in _REQUIRED]


def save_model(
    model: "VJEPA2ForVideoClassification",
    processor: "VJEPA2VideoProcessor",
    path: str | Path,
    *,
    stride: int,
    frames_per_second: float = 0.0,
    config: ServingConfig | None = None,
    model_card: str | None = None,
    seen: "SeenVideos | None" = None,
    conda_env: dict[str, Any] | str | None = None,
    mlflow_model: Model | None = None,
    signature: "ModelSignature | Literal[False] | None" = None,
    input_example: ModelInputExample | None = None,
    pip_requirements: list[str] | str | None = None,
    extra_pip_requirements: list[str] | str | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Saves a classifier as an MLflow model.

    Args:
        model: the classifier, with its labels in `config.id2label`.
        processor: its preprocessing.
        path: a folder that does not exist yet or is empty.
        stride: frames from one sampled frame to the next, as in training.
        frames_per_second: how many are sampled of a second instead, as in training; 0: every stride-th.
        config: how it computes where it is loaded with `mlflow.pyfunc`.
        model_card: the text of `README.md`, in Hugging Face's format.
        seen: the videos that it was trained, validated and tested on.
        conda_env: environment, as in every MLflow flavour; one of this and the two below may be given.
        mlflow_model: the MLflow model to add the flavour to.
        signature: replaces `default_signature()`; False: there is none, and MLflow drops parameters of predictions.
        input_example: a data frame with a column `video` that holds bytes.
        pip_requirements: replaces `get_default_pip_requirements()`.
        extra_pip_requirements: is added to `get_default_pip_requirements()`.
        metadata: is kept in the MLmodel file.

    Raises:
        UserError: the classifier could not be loaded again: its weights are not finite, or a value is out of its range.
        ValueError: of the environment more is given than MLflow's flavours take together.
    """
    from vjepa_mlflow.model import take_apart

    save_trained(
        take_apart(_about(path), model, processor),
        path,
        stride=stride,
        frames_per_second=frames_per_second,
        config=config,
        model_card=model_card,
        seen=seen,
        conda_env=conda_env,
        mlflow_model=mlflow_model,
        signature=signature,
        input_example=input_example,
        pip_requirements=pip_requirements,
        extra_pip_requirements=extra_pip_requirements,
        metadata=metadata,
    )


def save_trained(
    trained: "Trained",
    path: str | Path,
    *,
    stride: int,
    frames_per_second: float = 0.0,
    config: ServingConfig | None = None,
    model_card: str | None = None,
    seen: "SeenVideos | None" = None,
    conda_env: dict[str, Any] | str | None = None,
    mlflow_model: Model | None = None,
    signature: "ModelSignature | Literal[False] | None" = None,
    input_example: ModelInputExample | None = None,
    pip_requirements: list[str] | str | None = None,
    extra_pip_requirements: list[str] | str | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Does what `save_model` does, for a classifier in parts, without importing transformers.

    Args:
        trained: the classifier and its preprocessing.
        path: see `save_model`, as for all that follows.

    Raises:
        UserError: see `save_model`.
        ValueError: see `save_model`.
    """
    from vjepa_mlflow.model import write_checkpoint

    _validate_env_arguments(conda_env, pip_requirements, extra_pip_requirements)
    check_sampling(_about(path), stride, frames_per_second)
    path = Path(path)
    _validate_and_prepare_target_save_path(str(path))
    with _naming(path):
        pack(path / CODE_FOLDER)
        digests = write_checkpoint(_about(path), trained, path / CHECKPOINT_FOLDER)
        if seen is not None:
            seen.write(path / CHECKPOINT_FOLDER)
        if model_card is not None:
            (path / MODEL_CARD).write_text(model_card, encoding="utf-8")

        mlflow_model = mlflow_model or Model()
        if signature is not False:
            mlflow_model.signature = signature or mlflow_model.signature or default_signature()
        if input_example is not None:
            _save_example(mlflow_model, input_example, str(path))
        if metadata is not None:
            mlflow_model.metadata = metadata
        pyfunc.add_to_model(
            mlflow_model,
            loader_module=LOADER_MODULE,
            conda_env=_CONDA_ENV_FILE_NAME,
            python_env=_PYTHON_ENV_FILE_NAME,
            code=CODE_FOLDER,
            model_config=(config or ServingConfig()).to_model_config(),
        )
        mlflow_model.add_flavor(
            FLAVOR_NAME,
            format_version=FORMAT_VERSION,
            checkpoint=CHECKPOINT_FOLDER,
            stride=stride,
            frames_per_second=frames_per_second,
            weights_sha256=digests,
            code=CODE_FOLDER,
        )
        mlflow_model.model_size_bytes = get_total_file_size(path)
        mlflow_model.save(str(path / MLMODEL_FILE_NAME))
        _write_environment(path, conda_env, pip_requirements, extra_pip_requirements)


def _about(path: str | Path) -> str:
    """What messages begin with."""
    return f"the model for {path}"


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Has a full disk be told with the folder on it: safetensors and others do not say where they write."""
    try:
        yield
    except Exception as error:
        if is_full(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def _write_environment(
    path: Path,
    conda_env: dict[str, Any] | str | None,
    pip_requirements: list[str] | str | None,
    extra_pip_requirements: list[str] | str | None,
) -> None:
    environment, requirements, constraints = _environment(conda_env, pip_requirements, extra_pip_requirements)
    (path / _CONDA_ENV_FILE_NAME).write_text(yaml.safe_dump(environment, default_flow_style=False), encoding="utf-8")
    if constraints:
        write_to(str(path / _CONSTRAINTS_FILE_NAME), "\n".join(constraints))
    write_to(str(path / _REQUIREMENTS_FILE_NAME), "\n".join(requirements))
    _PythonEnv.current().to_yaml(str(path / _PYTHON_ENV_FILE_NAME))


def _environment(
    conda_env: dict[str, Any] | str | None,
    pip_requirements: list[str] | str | None,
    extra_pip_requirements: list[str] | str | None,
) -> tuple[dict[str, Any], list[str], list[str]]:
    """The environment as conda has it, its requirements, and constraints on them."""
    if conda_env is not None:
        return _process_conda_env(conda_env)
    # Given and not inferred: MLflow would infer by loading the model again in another process.
    defaults = get_default_pip_requirements() if pip_requirements is None else []
    if pip_requirements is None and extra_pip_requirements is None and not MLFLOW_LOCK_MODEL_DEPENDENCIES.get():
        # These are installed: MLflow would look through the files of all that is, to see whether they are.
        return _mlflow_conda_env(additional_pip_deps=defaults, install_mlflow=False), defaults, []
    return _process_pip_requirements(defaults, pip_requirements, extra_pip_requirements)


class _Flavor:
    """What `Model.log` saves with, without its loading the model again to see whether it serves the example.

    `tests/flavor` sees to that.
    """

    @staticmethod
    def save_model(
        *,
        trained: "Trained",
        path: str,
        mlflow_model: Model,
        validate_serving_input: bool,  # noqa: ARG004
        **kwargs: Any,
    ) -> None:
        save_trained(trained, path, mlflow_model=mlflow_model, **kwargs)
        _move_weights(Path(path), mlflow_model.artifact_path)


def _move_weights(saved: Path, artifacts: str) -> None:
    """Moves weights to a model's artifacts, where those are on the same disk: MLflow would copy them there."""
    if not is_local_uri(artifacts):
        return
    folder = Path(local_file_uri_to_path(artifacts)) / CHECKPOINT_FOLDER
    with suppress(OSError):  # it is another disk, or cannot be written, which MLflow tells
        folder.mkdir(parents=True, exist_ok=True)
        if not _gives_rights(folder):
            for file in (saved / CHECKPOINT_FOLDER).glob("*.safetensors"):
                file.rename(folder / file.name)


def _gives_rights(folder: Path) -> bool:
    """Whether new files in a folder get their group or their rights from it, which moved ones would not."""
    return bool(folder.stat().st_mode & stat.S_ISGID) or "system.posix_acl_default" in os.listxattr(folder)


def log_model(
    model: "VJEPA2ForVideoClassification",
    processor: "VJEPA2VideoProcessor",
    name: str = "model",
    *,
    stride: int,
    frames_per_second: float = 0.0,
    registered_model_name: str | None = None,
    step: int = 0,
    run_id: str | None = None,
    tags: dict[str, Any] | None = None,
    **kwargs: Any,
) -> ModelInfo:
    """Logs a classifier to the active run, or to a run of its own.

    Args:
        model: the classifier.
        processor: its preprocessing.
        name: of the logged model.
        stride: frames from one sampled frame to the next, as in training.
        frames_per_second: how many are sampled of a second instead, as in training; 0: every stride-th.
        registered_model_name: creates a version of this registered model.
        step: metrics that the run has logged with this step are attached to the model.
        run_id: the run to log it to, instead of the active one.
        tags: of the logged model.
        **kwargs: are passed to `save_model`. The example is not tried.
    """
    from vjepa_mlflow.model import take_apart

    return log_trained(
        take_apart(_about(name), model, processor),
        name,
        stride=stride,
        frames_per_second=frames_per_second,
        registered_model_name=registered_model_name,
        step=step,
        run_id=run_id,
        tags=tags,
        **kwargs,
    )


def log_trained(trained: "Trained", name: str, **kwargs: Any) -> ModelInfo:
    """Does what `log_model` does, for a classifier in parts.

    Args:
        trained: the classifier and its preprocessing.
        name: of the logged model.
        **kwargs: are passed to `Model.log`, and what that does not take to `save_trained`.
    """
    return Model.log(
        artifact_path=None,
        name=name,
        flavor=_Flavor,
        flavor_name=FLAVOR_NAME,
        validate_serving_input=False,
        trained=trained,
        **kwargs,
    )


def example_input(video: bytes) -> pd.DataFrame:
    """One video as the data frame that a logged model takes."""
    return pd.DataFrame({"video": [video]})


def example_video() -> bytes:
    """The MP4 file that is the example of what this project logs: some KB, one of the demo's motions."""
    return (importlib.resources.files("vjepa_mlflow.flavor") / EXAMPLE).read_bytes()
