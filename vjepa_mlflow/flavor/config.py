"""How a loaded model computes, and what it puts up with: MLflow's `model_config`."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.recipe import PRECISIONS
from vjepa_mlflow.video import Limits


@dataclass(frozen=True)
class ServingConfig:
    """Kept with a saved model; `mlflow.pyfunc.load_model(uri, model_config={...})` changes values, and so does the
    environment variable `MLFLOW_PYFUNC_INFERENCE_CONFIG`, which holds JSON and reaches servers and Spark's executors.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`; MLflow's `MLFLOW_DEFAULT_PREDICTION_DEVICE` says which is `auto`.
        precision: of the forward pass: `fp32`, `tf32` or `bf16`.
        decoders: processes that decode videos; 0: one for each CPU, of those that Spark gives a task where it is one.
        batch_size: clips of all requests in one forward pass at most, on a GPU.
        max_request_bytes: of the body of a request to MLflow's scoring server.
        max_videos: of one request.
        limits: of one video. In `model_config` its fields stand beside the others.
    """

    device: str = "auto"
    precision: str = "fp32"
    decoders: int = 0
    batch_size: int = 8
    max_request_bytes: int = 256 * 2**20
    max_videos: int = 256
    limits: Limits = field(default_factory=Limits)

    def to_model_config(self) -> dict[str, Any]:
        """As MLflow keeps it: names, and values that YAML and JSON have."""
        values = asdict(self)
        limits = values.pop("limits")
        return values | {name: list(value) if isinstance(value, tuple) else value for name, value in limits.items()}


def read_config(model_config: Mapping[str, Any]) -> ServingConfig:
    """Makes a configuration of what `to_model_config` made, perhaps with some values changed; others have defaults.

    Raises:
        UserError: a value is not of its kind; the message names it and says what was expected.
    """
    limits = Limits(**_known(Limits(), model_config))
    config = ServingConfig(**_known(ServingConfig(), model_config), limits=limits)
    if config.precision not in PRECISIONS:
        raise UserError(f"precision={config.precision}: expected one of {', '.join(PRECISIONS)}")
    return config


def _known(defaults: ServingConfig | Limits, given: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(defaults)} - {"limits"}
    return {name: _checked(name, given[name], getattr(defaults, name)) for name in names & set(given)}


def _checked(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
            return tuple(value)
        raise UserError(f"{name}={value}: expected a list of names, such as {', '.join(default[:3])}")
    if isinstance(default, str):
        if isinstance(value, str):
            return value
        raise UserError(f"{name}={value}: expected a word, such as {default}")
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.maxsize
    if isinstance(default, float):
        if number and value > 0:
            return float(value)
        raise UserError(f"{name}={value}: expected a number above 0")
    least = min(default, 1)
    if number and value == int(value) and value >= least:
        return int(value)
    raise UserError(f"{name}={value}: expected a whole number of at least {least}")
