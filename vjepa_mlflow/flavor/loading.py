"""Saved and logged models to classifiers: to be trained further, evaluated, or served."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.tracking.artifact_utils import _download_artifact_from_uri
from mlflow.utils.model_utils import _add_code_from_conf_to_system_path, _get_flavor_configuration

from vjepa_mlflow import video
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.flavor.config import ServingConfig, read_config
from vjepa_mlflow.flavor.saved_format import FLAVOR_NAME, FORMAT_VERSION

if TYPE_CHECKING:
    from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

    from vjepa_mlflow.flavor.video_classifier import VideoClassifier


class LoadedModel(NamedTuple):
    """A classifier and what goes with it.

    Attributes:
        model: in fp32, for prediction, on the CPU.
        processor: its preprocessing.
        stride: frames from one sampled frame to the next.
        model_id: of the logged model; None where it was only saved.
        frames_per_second: how many are sampled of a second instead; 0: every stride-th.
    """

    model: "VJEPA2ForVideoClassification"
    processor: "VJEPA2VideoProcessor"
    stride: int
    model_id: str | None
    frames_per_second: float

    @property
    def sampling(self) -> video.Sampling:
        """How its clips are taken from videos."""
        return video.Sampling(self.model.config.frames_per_clip, self.stride, self.frames_per_second)


def load_model(model_uri: str, dst_path: str | None = None) -> LoadedModel:
    """Loads a classifier and what goes with it from any MLflow model URI, such as `models:/name/1`.

    Raises:
        MlflowException: there is no such model, or it has not this flavour.
        UserError: a newer version of the package saved it.
    """
    folder = Path(_download_artifact_from_uri(artifact_uri=model_uri, output_path=dst_path))
    configuration = _configuration(folder)
    _add_code_from_conf_to_system_path(str(folder), configuration)
    return _load(folder, configuration)


class FetchedModel(NamedTuple):
    """A model's folder on this machine.

    Attributes:
        folder: of the whole.
        checkpoint: the folder of its weights.
        sampling: how it takes clips, but for their number of frames.
        run_id: of the run that logged it; None where none did.
    """

    folder: Path
    checkpoint: Path
    sampling: video.Sampling
    run_id: str | None


def fetch_model(model_uri: str) -> FetchedModel:
    """Fetches a logged or registered model.

    Raises:
        UserError: there is no such model, it is of another flavour, or a newer version of the package saved it.
    """
    try:
        folder = Path(_download_artifact_from_uri(artifact_uri=model_uri))
        configuration = _configuration(folder)
        return FetchedModel(
            folder,
            folder / configuration["checkpoint"],
            video.Sampling(1, configuration["stride"], configuration.get("frames_per_second", 0.0)),
            Model.load(str(folder)).run_id,
        )
    except (MlflowException, OSError) as error:
        raise UserError(f"{model_uri}: {one_line(error)}: expected a model that this project logged") from error


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> "VideoClassifier":
    """Loads a saved model for serving. `mlflow.pyfunc` finds this function by its import path: a permanent contract."""
    from vjepa_mlflow.flavor.server import guard_server
    from vjepa_mlflow.flavor.spark import task_cpus

    config = read_config(model_config or {})
    guard_server(max_request_bytes=config.max_request_bytes)
    if task_cpus() is None:
        return _make_classifier(path, config)
    return _classifier_of_process(path, Model.load(path).model_uuid, config)


@functools.lru_cache(maxsize=1)
def _classifier_of_process(path: str, model_uuid: str, config: ServingConfig) -> "VideoClassifier":  # noqa: ARG001
    """The classifier that all of a process's Spark tasks share: each of them loads the model, or believes it does."""
    return _make_classifier(path, config)


def _make_classifier(path: str, config: ServingConfig) -> "VideoClassifier":
    from vjepa_mlflow.flavor.video_classifier import VideoClassifier

    loaded = _load(Path(path), _configuration(Path(path)))
    return VideoClassifier(loaded.model, loaded.processor, sampling=loaded.sampling, config=config)


def _configuration(folder: Path) -> dict[str, Any]:
    configuration = _get_flavor_configuration(model_path=str(folder), flavor_name=FLAVOR_NAME)
    if configuration["format_version"] > FORMAT_VERSION:
        raise UserError(
            f"{folder}: saved in format {configuration['format_version']}: expected at most {FORMAT_VERSION}; "
            f"install a newer vjepa-mlflow"
        )
    return configuration


def _load(folder: Path, configuration: dict[str, Any]) -> LoadedModel:
    from transformers import VJEPA2VideoProcessor

    from vjepa_mlflow.model import load_trained

    checkpoint = folder / configuration["checkpoint"]
    return LoadedModel(
        model=load_trained(checkpoint),
        processor=VJEPA2VideoProcessor.from_pretrained(checkpoint),
        stride=configuration["stride"],
        model_id=Model.load(str(folder)).model_id,
        frames_per_second=configuration.get("frames_per_second", 0.0),
    )
