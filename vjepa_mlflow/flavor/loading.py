"""Saved and logged models to classifiers: to be trained further, evaluated, or served."""

import functools
import gc
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow.models import Model

from vjepa_mlflow import video
from vjepa_mlflow.about import FOLDER
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.paths import shortened
from vjepa_mlflow.files.temporary import lack_of_room, own_place, own_temporaries
from vjepa_mlflow.flavor.config import ServingConfig, read_config
from vjepa_mlflow.flavor.hosts import is_server, task_cpus
from vjepa_mlflow.flavor.packing import CODE_FOLDER
from vjepa_mlflow.flavor.saved_format import RUNS_SCHEME, URI_SCHEMES
from vjepa_mlflow.flavor.saved_model import EXPECTED, FetchedModel, read_saved_model
from vjepa_mlflow.internals.mlflow_private import are_here, find_artifacts
from vjepa_mlflow.runtime.cpus import let_idle_threads_sleep
from vjepa_mlflow.runtime.forks import call_apart
from vjepa_mlflow.tracking.answers import describe_deletion
from vjepa_mlflow.tracking.first_answer import wake_tracking

if TYPE_CHECKING:
    from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

    from vjepa_mlflow.flavor.video_classifier import VideoClassifier

OVERRIDES = "MLFLOW_PYFUNC_INFERENCE_CONFIG"
"""The environment variable that changes values of a `ServingConfig`, wherever a model is served."""

DEFAULT_DEVICE = "MLFLOW_DEFAULT_PREDICTION_DEVICE"
"""The environment variable that says where MLflow's flavours compute if nothing else does."""


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


def fetch_model(model_uri: str, dst_path: str | None = None) -> FetchedModel:
    """Fetches a saved, logged or registered model.

    Raises:
        UserError: the tracking server does not answer, there is no such model, it is of another flavour, a newer
            version of the package saved it, or its folder is not as it was saved.
    """
    if model_uri.startswith(URI_SCHEMES):
        wake_tracking()
    try:
        folder = _download(model_uri, dst_path)
    except Exception as error:  # each store's client has errors of its own
        run_id = model_uri.removeprefix(RUNS_SCHEME).lstrip("/").partition("/")[0]
        deleted = describe_deletion(run_id) if model_uri.startswith(RUNS_SCHEME) else ""
        full = lack_of_room(error)
        raise UserError(full or f"{model_uri}: {deleted or one_line(error).rstrip('.')}: {EXPECTED}") from error
    return read_saved_model(folder, model_uri)


def _download(model_uri: str, dst_path: str | None) -> Path:
    """Where a model is that lies on this machine, or where it has been fetched to."""
    store, path = find_artifacts(model_uri)
    if dst_path is None and not are_here(store):
        dst_path = own_place()
    return Path(store.download_artifacts(artifact_path=path, dst_path=dst_path))


def load_model(model_uri: str, dst_path: str | None = None) -> LoadedModel:
    """Loads a classifier and what goes with it from any MLflow model URI, such as `models:/name/1`.

    None of the code in the model's folder is used, unlike where MLflow loads it.

    Raises:
        UserError: see `fetch_model`; or its checkpoint is not whole.
    """
    from vjepa_mlflow.model import make_processor

    with own_temporaries():  # what is fetched is in memory afterwards
        fetched = fetch_model(model_uri, dst_path)
        return LoadedModel(
            model=load_fetched(fetched),
            processor=make_processor(fetched.preprocessing()),
            stride=fetched.stride,
            model_id=fetched.model_id,
            frames_per_second=fetched.frames_per_second,
        )


def load_fetched(fetched: FetchedModel) -> "VJEPA2ForVideoClassification":
    """Loads a classifier from its folder, in fp32, for prediction, on the CPU.

    Raises:
        UserError: its checkpoint is not whole, or not as it was saved.
    """
    from vjepa_mlflow.model import load_trained

    return load_trained(fetched.checkpoint, fetched.name, weights_sha256=fetched.weights_sha256)


def make_video_classifier(fetched: FetchedModel) -> "VideoClassifier":
    """Loads a model for whole videos, as MLflow's servers do, with its own configuration.

    Raises:
        UserError: see `load_fetched`; or a value of the configuration is not of its kind.
    """
    try:
        config = read_config({**fetched.config, **_overrides(fetched.config)})
    except UserError as error:
        raise UserError(f"{fetched.name}: {error}") from None
    return _make_classifier(fetched, config)


def _overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the environment says otherwise of a model's configuration of serving, as MLflow reads it."""
    given = os.environ.get(OVERRIDES, "")
    try:
        return {name: value for name, value in json.loads(given or "{}").items() if name in config}
    except (ValueError, AttributeError):
        raise UserError(f"{OVERRIDES}={shortened(given)}: expected names and values in JSON") from None


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> "VideoClassifier":
    """Loads a saved model for serving. `mlflow.pyfunc` finds this function by its import path: a permanent contract."""
    config = read_config(model_config or {})
    fetched = read_saved_model(Path(path), path)
    _leave_out_copy(fetched.folder / CODE_FOLDER)
    if task_cpus() is not None:
        return _classifier_of_process(path, fetched.model_uuid, config)
    return _serve(fetched, config) if is_server() else _make_classifier(fetched, config)


def _leave_out_copy(code: Path) -> None:
    """Takes a model's copy of this package, if it is not this one, from Python's path: processes that start with that
    path would have another package than the one that this process sends them pickled models of."""
    if not FOLDER.is_relative_to(code):
        sys.path[:] = [place for place in sys.path if place != str(code)]


def _serve(fetched: FetchedModel, config: ServingConfig) -> "VideoClassifier":
    """Makes the classifier of a server, ready to answer."""
    let_idle_threads_sleep()  # or they keep decoders from their CPUs, and each other
    from vjepa_mlflow.flavor.payloads import Payloads
    from vjepa_mlflow.flavor.server import serve
    from vjepa_mlflow.flavor.service import Service

    signature = Model.load(fetched.folder).signature
    # Its process imports MLflow meanwhile.
    payloads = Payloads(signature, max_videos=config.max_videos, max_bytes=config.max_request_bytes)
    classifier = _make_classifier(fetched, config)
    serve(classifier, Service(classifier, payloads, config))
    gc.freeze()  # what is there stays: looking through it again and again takes a sixth of a server's time
    return classifier


@functools.lru_cache(maxsize=1)
def _classifier_of_process(path: str, model_uuid: str | None, config: ServingConfig) -> "VideoClassifier":  # noqa: ARG001
    """The classifier that all of a process's Spark tasks share: each of them loads the model, or believes it does."""
    return _make_classifier(read_saved_model(Path(path), path), config)


def _make_classifier(fetched: FetchedModel, config: ServingConfig) -> "VideoClassifier":
    from vjepa_mlflow.flavor.video_classifier import VideoClassifier

    if config.device == "auto" and os.environ.get(DEFAULT_DEVICE):  # else it is chosen where the model first works
        config = replace(config, device=_default_device())
    model = call_apart(lambda: load_fetched(fetched))
    sampling = fetched.sampling(model.config.frames_per_clip)
    return VideoClassifier(model, fetched.preprocessing(), sampling=sampling, config=config)


def _default_device() -> str:
    """What `auto` is where MLflow's variable names a device, or numbers a GPU as its flavour of transformers has it."""
    from vjepa_mlflow.model import choose_device

    name = given = os.environ[DEFAULT_DEVICE]
    with suppress(ValueError):
        name = f"cuda:{number}" if (number := int(given)) >= 0 else "cpu"
    try:
        return str(choose_device(name))
    except UserError as error:
        fault = str(error).removeprefix(f"device={name}: ")
        raise UserError(f"{DEFAULT_DEVICE}={shortened(given)}: {fault}") from None
