"""The values of a training run. The only place where a default stands.

The command line makes its options from these fields, `tools.mlproject` makes `MLproject` from the command line, and
MLflow logs them as parameters under these names.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from vjepa_mlflow import video
from vjepa_mlflow.bad_videos import BadVideos
from vjepa_mlflow.errors import UserError

PRECISIONS = ("fp32", "tf32", "bf16")
CLASS_WEIGHTS = ("none", "balanced")
CACHES = ("disk", "memory", "off")
LARGEST = 2**32 - 1
"""The largest whole number that PyTorch, NumPy and Optuna all take, as a seed above all."""
SCHEDULERS = ("constant", "linear", "cosine")


def _option(default: Any, text: str, choices: tuple[str, ...] | None = None, minimum: int | None = None) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices, "minimum": minimum})


@dataclass(frozen=True)
class Recipe:
    """What to train on, and how. The defaults are those of the model card that the project follows.

    Raises:
        UserError: a value is of another type, or out of its range; the message names the field, the value and what was
            expected.
    """

    data: str = _option("demo", "Folder or table of labelled videos, or 'demo': a small set drawn on the spot.")
    model: str = _option(
        "auto",
        "Hub id, checkpoint folder, models:/ or runs:/ URI, 'tiny', or 'auto': tiny for the demo, "
        "otherwise qubvel-hf/vjepa2-vitl-fpc16-256-ssv2.",
    )
    epochs: int = _option(5, "Passes over the training set.", minimum=1)
    learning_rate: float = _option(1e-5, "Adam's learning rate for the head.")
    gradient_accumulation_steps: int = _option(4, "Micro-batches of one optimizer step.", minimum=1)
    batch_size: int = _option(1, "Clips in a micro-batch.", minimum=1)
    precision: str = _option("fp32", "Numeric format of the forward pass; fp32 is strict.", choices=PRECISIONS)
    views: int = _option(0, "Reuse this many views of each training video; 0 takes a fresh one each epoch.", minimum=0)
    stride: int = _option(4, "Frames from one sampled frame to the next; shrinks for short videos.", minimum=1)
    frames_per_second: float = _option(
        0.0, "Sample so many frames a second, whatever a video's own rate, instead of every stride-th; 0: by stride."
    )
    horizontal_flip: bool = _option(False, "Mirror half of the training views; wrong where classes are directions.")
    scheduler: str = _option("constant", "Course of the learning rate over the run.", choices=SCHEDULERS)
    class_weights: str = _option(
        "none", "Weights in the loss; balanced: inverse to class frequency.", choices=CLASS_WEIGHTS
    )
    patience: int = _option(0, "Stop after this many epochs without a better validation accuracy; 0: never.", minimum=0)
    seed: int = _option(0, "Seed of the splits, the views, the order and the new classifier.", minimum=0)
    device: str = _option("auto", "auto, cpu, cuda or cuda:N.")
    bad_videos: str = _option(
        "stop",
        "What unreadable videos do: stop the run before training, or be skipped.",
        choices=BadVideos.CHOICES,
    )
    min_videos: int = _option(1, "Leave out classes with fewer videos; 1 leaves out none.", minimum=1)
    cache: str = _option(
        "disk",
        "Where the backbone's features are kept: on disk, for later runs too, in memory, or nowhere.",
        choices=CACHES,
    )
    cache_budget: float = _option(0.0, "GiB of features to keep there; 0: half of what is free.")
    country: str = _option(
        "",
        "Measure energy and CO2, with the electricity of this country (ISO 3166 alpha-3, such as DEU); empty: do not.",
    )
    registered_model_name: str = _option("", "Register the model under this name; empty: do not.")

    def __post_init__(self) -> None:
        for name in ("data", "model"):
            if isinstance(getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
        for option in fields(self):
            _check_type(option.name, getattr(self, option.name), option.type)
            if option.type in (int, float):  # NumPy's may be, which neither PyTorch nor JSON takes
                object.__setattr__(self, option.name, option.type(getattr(self, option.name)))
            _check(option.name, getattr(self, option.name), option.metadata["choices"], option.metadata["minimum"])
        if not self.data.strip():
            raise UserError(f"data={self.data}: expected a folder or table of labelled videos, or demo")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(f"learning_rate={self.learning_rate}: expected a number greater than 0")
        if not (math.isfinite(self.cache_budget) and self.cache_budget >= 0):
            raise UserError(f"cache_budget={self.cache_budget}: expected a number of GiB, or 0")
        if not (math.isfinite(self.frames_per_second) and self.frames_per_second >= 0):
            raise UserError(f"frames_per_second={self.frames_per_second}: expected a number of frames, or 0")
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", self.device):
            raise UserError(f"device={self.device}: expected auto, cpu, cuda or cuda:N")
        _check_registered_model_name(self.registered_model_name)

    def training_fields(self) -> dict[str, str]:
        """The values that say how a head is learnt, by field: what may not change where a run goes on."""
        return {name: str(value) for name, value in asdict(self).items() if name not in ENVIRONMENT_FIELDS}

    def sampling(self, num_frames: int) -> "video.Sampling":
        """How clips of so many frames are taken from their videos."""
        return video.Sampling(num_frames, self.stride, self.frames_per_second)

    @property
    def distinct_views(self) -> int:
        """How many views of a training video a run reads."""
        return min(self.epochs, self.views or self.epochs)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[tuple[str, str | None, str | None]]:
    """Where two descriptions of what is learnt differ: the name, the one and the other.

    A field of the recipe that one of them does not have counts as its default: it was not there then.
    """
    defaults = Recipe().training_fields()
    for name in sorted({*before, *now}):
        one, other = (values.get(name, defaults.get(name)) for values in (before, now))
        if one != other:
            yield name, one, other


EXTRACTED = (
    "data",
    "model",
    "epochs",
    "precision",
    "views",
    "stride",
    "frames_per_second",
    "horizontal_flip",
    "seed",
    "device",
    "bad_videos",
    "min_videos",
    "cache_budget",
)
"""The fields that the features of a run depend on, or how they are made: all that `extract` asks for."""

CHECKED = tuple(name for name in EXTRACTED if name not in ("device", "cache_budget"))
"""The fields that the clips of a run depend on: all that `check` asks for."""

ENVIRONMENT_FIELDS = (
    "data",
    "device",
    "bad_videos",
    "min_videos",
    "cache",
    "cache_budget",
    "country",
    "registered_model_name",
)
"""The fields that say on what and where a run is made; the others say how a head is learnt."""

EVALUATED_SPLITS = ("train", "val", "test", "all")
"""What `evaluate` may be asked for: a split of the data, or all of its videos."""

EVALUATED = ("data", "precision", "seed", "device", "bad_videos", "min_videos", "cache", "cache_budget")
"""The fields that the evaluation of a trained model depends on: all that `evaluate` asks for."""


TYPES: dict[Any, tuple[Any, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "true or false"),
    str: (str, "a text"),
}
"""By a field's type, what its values may be, NumPy's numbers among them, and how that is called."""


def _check_type(name: str, value: Any, kind: Any) -> None:
    types, text = TYPES[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{name}={value!r}: expected {text}")
    if isinstance(value, Integral) and int(value) > LARGEST:
        raise UserError(f"{name}={value}: expected {text} of at most {LARGEST}")


def _check(name: str, value: Any, choices: tuple[str, ...] | None, minimum: int | None) -> None:
    if choices is not None and value not in choices:
        raise UserError(f"{name}={value}: expected one of {', '.join(choices)}")
    if minimum is not None and value < minimum:
        raise UserError(f"{name}={value}: expected a whole number of at least {minimum}")


def _check_registered_model_name(name: str) -> None:
    """Refuses what MLflow's registry would refuse, when there is nothing to lose yet; the empty one stands for none."""
    if name and (not name.strip() or "/" in name or ":" in name or name == "." or name.startswith("..")):
        raise UserError(f"registered_model_name={name}: expected a name without / and : that does not begin with ..")
