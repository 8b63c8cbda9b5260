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
from vjepa_mlflow.internals.mlflow_private import (
    Environment,
    check_environment,
    environment_files,
    environment_of,
    local_folder,
    prepare_folder,
    read_conda_environment,
    read_requirements,
    save_example,
    size_of,
    write_python_environment,
)

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
    from vjepa_mlflow.model import write_checkpoint

    trained = _in_parts(_about(path), model, processor)
    check_environment(conda_env, pip_requirements, extra_pip_requirements)
    check_sampling(_about(path), stride, frames_per_second)
    path = Path(path)
    prepare_folder(path)
    environment = environment_files()
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
            save_example(mlflow_model, input_example, path)
        if metadata is not None:
            mlflow_model.metadata = metadata
        pyfunc.add_to_model(
            mlflow_model,
            loader_module=LOADER_MODULE,
            conda_env=environment.conda,
            python_env=environment.python,
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
        mlflow_model.model_size_bytes = size_of(path)
        mlflow_model.save(str(path / MLMODEL_FILE_NAME))
        _write_environment(path, _environment(conda_env, pip_requirements, extra_pip_requirements))


def save_trained(trained: "Trained", path: str | Path, **arguments: Any) -> None:
    """Does what `save_model` does, for a classifier in parts, without importing transformers.

    Args:
        trained: the classifier and its preprocessing.
        path: see `save_model`, as for all that follows.
        **arguments: see `save_model`.

    Raises:
        UserError: see `save_model`.
        ValueError: see `save_model`.
    """
    save_model(trained, None, path, **arguments)


def _in_parts(about: str, model: "VJEPA2ForVideoClassification | Trained", processor: Any) -> "Trained":
    """A classifier in the parts that it is saved from, which it may have been given in."""
    from vjepa_mlflow.model import Trained

    if isinstance(model, Trained):
        return model
    from vjepa_mlflow.model import take_apart

    return take_apart(about, model, processor)


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


def _write_environment(path: Path, environment: Environment) -> None:
    files = environment_files()
    (path / files.conda).write_text(yaml.safe_dump(environment.conda, default_flow_style=False), encoding="utf-8")
    if environment.constraints:
        (path / files.constraints).write_text("\n".join(environment.constraints), encoding="utf-8")
    (path / files.requirements).write_text("\n".join(environment.requirements), encoding="utf-8")
    write_python_environment(path / files.python)


def _environment(
    conda_env: dict[str, Any] | str | None,
    pip_requirements: list[str] | str | None,
    extra_pip_requirements: list[str] | str | None,
) -> Environment:
    """What a model needs, of what the user says of it."""
    if conda_env is not None:
        return read_conda_environment(conda_env)
    # Given and not inferred: MLflow would infer by loading the model again in another process.
    defaults = get_default_pip_requirements() if pip_requirements is None else []
    if pip_requirements is None and extra_pip_requirements is None and not MLFLOW_LOCK_MODEL_DEPENDENCIES.get():
        # These are installed: MLflow would look through the files of all that is, to see whether they are.
        return environment_of(defaults)
    return read_requirements(defaults, pip_requirements, extra_pip_requirements)


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
    if (root := local_folder(artifacts)) is None:
        return
    folder = root / CHECKPOINT_FOLDER
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
    return Model.log(
        artifact_path=None,
        name=name,
        flavor=_Flavor,
        flavor_name=FLAVOR_NAME,
        validate_serving_input=False,
        trained=_in_parts(_about(name), model, processor),
        stride=stride,
        frames_per_second=frames_per_second,
        registered_model_name=registered_model_name,
        step=step,
        run_id=run_id,
        tags=tags,
        **kwargs,
    )


def log_trained(trained: "Trained", name: str, **arguments: Any) -> ModelInfo:
    """Does what `log_model` does, for a classifier in parts, without importing transformers.

    Args:
        trained: the classifier and its preprocessing.
        name: of the logged model.
        **arguments: see `log_model`.
    """
    return log_model(trained, None, name, **arguments)


def example_input(video: bytes) -> pd.DataFrame:
    """One video as the data frame that a logged model takes."""
    return pd.DataFrame({"video": [video]})


def example_video() -> bytes:
    """The MP4 file that is the example of what this project logs: some KB, one of the demo's motions."""
    return (importlib.resources.files("vjepa_mlflow.flavor") / EXAMPLE).read_bytes()
