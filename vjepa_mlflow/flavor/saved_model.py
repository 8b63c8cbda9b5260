"""What a saved model's folder says of itself, read by this package: nothing in it is imported, or lies outside."""

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from vjepa_mlflow import video
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.paths import is_folder, shortened
from vjepa_mlflow.files.reading import read_bounded
from vjepa_mlflow.flavor.saved_format import FLAVOR_NAME, FORMAT_VERSION, LOADER_MODULE
from vjepa_mlflow.model.checkpoint import WEIGHTS_FILE, Checkpoint, from_folder
from vjepa_mlflow.model.configuration import Preprocessing, read_preprocessing
from vjepa_mlflow.recipe import LARGEST

FILE = "MLmodel"
LARGEST_FILE = 1 << 20
MOST_VALUES = 1 << 17
EXPECTED = "expected a model that this project logged"

_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""A hundred times as fast, where it was built."""


@dataclass(frozen=True)
class FetchedModel:
    """A model's folder on this machine, and what its `MLmodel` says.

    Attributes:
        name: what the user calls it: messages about it begin so.
        folder: of the whole.
        checkpoint: the folder of its weights.
        stride: frames from one sampled frame to the next.
        frames_per_second: how many are sampled of a second instead; 0: every stride-th.
        weights_sha256: the digests of its files of weights when they were saved, by name; None before format 5.
        config: how it computes where it is served: see `read_config`.
        model_id: of the logged model; None where it was only saved.
        model_uuid: of this saving of it.
        run_id: of the run that logged it; None where none did.
    """

    name: str
    folder: Path
    checkpoint: Path
    stride: int
    frames_per_second: float
    weights_sha256: Mapping[str, str] | None
    config: Mapping[str, Any]
    model_id: str | None
    model_uuid: str | None
    run_id: str | None

    def as_checkpoint(self, *, cache_dir: Path | None = None) -> Checkpoint:
        """Its weights, to be used as they are.

        Args:
            cache_dir: see `Checkpoint`.

        Raises:
            UserError: they are not those that were saved.
        """
        digests = self.weights_sha256
        return from_folder(self.name, self.checkpoint, whole=True, weights_sha256=digests, cache_dir=cache_dir)

    def preprocessing(self) -> Preprocessing:
        """What is done to its frames.

        Raises:
            UserError: its checkpoint does not say, or says what cannot be.
        """
        return read_preprocessing(self.name, self.checkpoint)

    def sampling(self, num_frames: int) -> video.Sampling:
        """How it takes clips of so many frames."""
        return video.Sampling(num_frames, self.stride, self.frames_per_second)


def read_saved_model(folder: Path, name: str) -> FetchedModel:
    """Reads a saved model's `MLmodel`, and looks where the files beside its weights lie.

    Args:
        folder: of the model.
        name: what the user calls it.

    Raises:
        UserError: it is not a model of this project, a newer version of the package saved it, or it says what cannot
            be.
    """
    content = _read(folder, name)
    flavors = content.get("flavors")
    if not isinstance(flavors, dict) or not isinstance(own := flavors.get(FLAVOR_NAME), dict):
        raise UserError(f"{name}: {FILE} has no flavour {FLAVOR_NAME}: {EXPECTED}")
    served = flavors.get("python_function")
    loader = served.get("loader_module") if isinstance(served, dict) else None
    if not isinstance(served, dict) or loader != LOADER_MODULE:
        raise UserError(f"{name}: {FILE}: loader_module={_shown(loader)}: expected {LOADER_MODULE}")
    about = f"{name}: {FILE}"
    values = _Values(about, own)
    version = values.whole("format_version", least=1)
    if version > FORMAT_VERSION:
        raise UserError(
            f"{name}: saved in format {version}: expected at most {FORMAT_VERSION}; install a newer vjepa-mlflow"
        )
    identity = _Values(about, content)
    return FetchedModel(
        name=name,
        folder=folder,
        checkpoint=_inner_folder(folder, name, values.text("checkpoint")),
        stride=values.whole("stride", least=1),
        frames_per_second=values.number("frames_per_second", default=0.0),
        weights_sha256=_digests(values, version),
        config=_Values(about, served).mapping("config"),
        model_id=identity.text_or_none("model_id"),
        model_uuid=identity.text_or_none("model_uuid"),
        run_id=identity.text_or_none("run_id"),
    )


def _digests(values: "_Values", version: int) -> Mapping[str, str] | None:
    if version < 5:
        return None
    if version < 6:
        return {WEIGHTS_FILE: values.text("weights_sha256")}
    return values.texts("weights_sha256")


def check_sampling(about: str, stride: Any, frames_per_second: Any) -> None:
    """Refuses what could not be read back as the sampling of a saved model.

    Raises:
        UserError: names the value.
    """
    values = _Values(about, {"stride": stride, "frames_per_second": frames_per_second})
    values.whole("stride", least=1)
    values.number("frames_per_second", default=0.0)


@dataclass(frozen=True)
class _Values:
    """Values by name, each of its kind or refused.

    Attributes:
        about: what messages begin with.
        given: the values.
    """

    about: str
    given: Mapping[Any, Any]

    def whole(self, name: str, *, least: int) -> int:
        value = self.given.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST:
            return value
        raise self._error(name, f"a whole number from {least} to {LARGEST}")

    def number(self, name: str, *, default: float) -> float:
        value = self.given.get(name, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST:
            return float(value)
        raise self._error(name, f"a number from 0 to {LARGEST}")

    def text(self, name: str) -> str:
        if isinstance(value := self.given.get(name), str):
            return value
        raise self._error(name, "a text")

    def texts(self, name: str) -> Mapping[str, str]:
        value = self.mapping(name)
        if value and all(isinstance(one, str) for one in value.values()):
            return value
        raise self._error(name, "a text for each of some names")

    def text_or_none(self, name: str) -> str | None:
        return None if self.given.get(name) is None else self.text(name)

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.given.get(name)
        if value is None:
            return {}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return value
        raise self._error(name, "names and values")

    def _error(self, name: str, expected: str) -> UserError:
        return UserError(f"{self.about}: {name}={_shown(self.given.get(name))}: expected {expected}")


def _read(folder: Path, name: str) -> Mapping[Any, Any]:
    path = folder / FILE
    try:
        _check_inside(folder, path)
        content = yaml.load(read_bounded(path, at_most=LARGEST_FILE), _YAML)
        _check_size(content)
    except FileNotFoundError:
        raise UserError(f"{name}: there is no {FILE}: {EXPECTED}") from None
    except Exception as error:  # PyYAML raises of all kinds where a value is not of the type that is claimed
        raise UserError(f"{name}: {FILE} cannot be read ({one_line(error)}): {EXPECTED}") from error
    if not isinstance(content, dict):
        raise UserError(f"{name}: {FILE} says nothing by name: {EXPECTED}")
    return content


def _check_size(content: Any) -> None:
    """Refuses what is only small until it is written out: YAML may name one value many times, or within itself.

    Raises:
        ValueError: it has too many values, or a number with too many digits.
    """
    waiting, seen = [content], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > MOST_VALUES or (isinstance(value, int) and abs(value) > sys.maxsize):
            raise ValueError("too much in it")
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value


def _inner_folder(folder: Path, name: str, inner: str) -> Path:
    """A folder inside the model's, with nothing in it that lies elsewhere or is no file."""
    inside = folder / inner
    if Path(inner).is_absolute() or not is_folder(inside):
        raise UserError(f"{name}: {FILE}: checkpoint={_shown(inner)}: expected a folder in the model's")
    for path in chain((inside,), _entries(inside)):
        try:
            _check_inside(folder, path)
        except (OSError, ValueError) as error:
            shown = shortened(os.path.relpath(path, folder))
            raise UserError(f"{name}: {shown}: {one_line(error)}: expected files in the model's folder") from None
    return inside


def _entries(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(place, entry) for entry in (*folders, *files))


def _check_inside(folder: Path, path: Path) -> None:
    """Refuses what a link leads out of a folder, and what is neither a file nor a folder.

    Raises:
        OSError: there is nothing, or nothing that may be looked at.
        ValueError: it lies elsewhere, or is something else.
    """
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_relative_to(os.path.realpath(folder, strict=True)):
        raise ValueError("it lies outside the model's folder")
    if not any(kind(real.stat().st_mode) for kind in (stat.S_ISREG, stat.S_ISDIR)):
        raise ValueError("it is neither a file nor a folder")


def _shown(value: Any) -> str:
    return shortened(repr(value))
