"""Weights from safetensors files, looked at before anything is made of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.digest import sha256_of
from vjepa_mlflow.files.paths import shortened
from vjepa_mlflow.files.reading import open_regular
from vjepa_mlflow.files.tensors import StoredTensor, read_layout
from vjepa_mlflow.model.architecture import BACKBONE, classifier_shapes
from vjepa_mlflow.model.configuration import CONFIG_FILE, Configuration

_FORMATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_BARE = ("encoder.", "predictor.")
"""How names begin in a checkpoint of the backbone alone."""


class StoredWeights(NamedTuple):
    """The tensors in some files, by the names that a classifier has for them.

    Attributes:
        about: what messages begin with.
        files: for each file its tensors, in the order in which they lie there.
    """

    about: str
    files: Mapping[Path, Mapping[str, StoredTensor]]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for tensors in self.files.values() for name, tensor in tensors.items()}


def open_weights(about: str, files: Sequence[Path]) -> StoredWeights:
    """Reads what files say of their tensors.

    Args:
        about: what messages begin with.
        files: in safetensors' format.

    Raises:
        UserError: one of them is not, or two hold the same tensor.
    """
    layouts: dict[Path, dict[str, StoredTensor]] = {}
    for path in files:
        try:
            layouts[path] = read_layout(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{about}: cannot be loaded: {path.name}: {one_line(error)}") from error
    bare = not any(name.startswith(BACKBONE) for tensors in layouts.values() for name in tensors)
    if bare:
        layouts = {path: {_whole_name(name): one for name, one in tensors.items()} for path, tensors in layouts.items()}
    seen: dict[str, Path] = {}
    for path, tensors in layouts.items():
        for name in tensors:
            if name in seen:
                files_of_it = f"{seen[name].name} and {path.name}"
                raise UserError(f"{about}: {shortened(name)} is in {files_of_it}: expected it in one of them")
            seen[name] = path
    return StoredWeights(about, layouts)


def _whole_name(name: str) -> str:
    return BACKBONE + name if name.startswith(_BARE) else name


def read_weights(stored: StoredWeights, names: Iterable[str]) -> dict[str, Tensor]:
    """Tensors by name, in fp32. Those that are stored so stay in their files, which processes share.

    Raises:
        UserError: the format of one of them holds no real numbers, or a file cannot be read.
    """
    wanted = frozenset(names)
    contents = {path: _map(stored.about, path) for path in stored.files}
    return {
        name: _cut(stored.about, contents[path], name, tensor)
        for path, tensors in stored.files.items()
        for name, tensor in tensors.items()
        if name in wanted
    }


def read_weight(stored: StoredWeights, name: str) -> Tensor:
    """One tensor, in fp32 and in memory of its own, whatever becomes of its file meanwhile.

    Raises:
        UserError: see `read_weights`.
    """
    path = next(path for path, tensors in stored.files.items() if name in tensors)
    tensor = stored.files[path][name]
    dtype = _format(stored.about, name, tensor)
    content = torch.empty(tensor.end - tensor.begin, dtype=torch.uint8)
    try:
        with open_regular(path) as file:
            file.seek(tensor.begin)
            size = file.readinto(content.numpy())  # type: ignore[attr-defined]
    except OSError as error:
        raise UserError(f"{stored.about}: cannot be loaded: {path.name}: {one_line(error)}") from error
    if size < len(content):
        raise UserError(f"{stored.about}: cannot be loaded: {path.name} was cut off: expected {tensor.end} bytes")
    return content.view(dtype).view(tensor.shape).float()


def digest_weights(stored: StoredWeights) -> dict[str, str]:
    """The SHA-256 of each file by its name, hexadecimal.

    Raises:
        UserError: a file cannot be read.
    """
    return {path.name: sha256_of(_map(stored.about, path).numpy().data) for path in stored.files}


def _map(about: str, path: Path) -> Tensor:
    """A file's bytes."""
    try:
        return torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{about}: cannot be loaded: {path.name}: {one_line(error)}") from error


def _cut(about: str, content: Tensor, name: str, tensor: StoredTensor) -> Tensor:
    dtype = _format(about, name, tensor)
    part = content[tensor.begin : tensor.end]
    if tensor.begin % dtype.itemsize:  # PyTorch reads values only where they may lie in memory
        part = part.clone()
    return part.view(dtype).view(tensor.shape).float()


def _format(about: str, name: str, tensor: StoredTensor) -> torch.dtype:
    if tensor.dtype not in _FORMATS:
        raise UserError(f"{about}: {shortened(name)} is of {tensor.dtype}: expected one of {', '.join(_FORMATS)}")
    return _FORMATS[tensor.dtype]


def format_name(about: str, name: str, dtype: torch.dtype) -> str:
    """How safetensors calls a format of real numbers.

    Raises:
        UserError: it is another.
    """
    names = {value: key for key, value in _FORMATS.items()}
    if dtype not in names:
        raise UserError(f"{about}: {shortened(name)} is of {dtype}: expected one of {', '.join(map(str, names))}")
    return names[dtype]


def check_finite(about: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuses weights that cannot be calculated with.

    Raises:
        UserError: names the first tensor.
    """
    for name, tensor in tensors.items():
        if tensor.numel() and not all(map(math.isfinite, tensor.aminmax())):  # NaN is both, where there is one
            raise UserError(f"{about}: {shortened(name)} holds values that are no numbers: expected finite weights")


def check_whole(stored: StoredWeights, configuration: Configuration) -> None:
    """Refuses weights that are not exactly those of a trained classifier, by names and shapes.

    Raises:
        UserError: names the first tensor that is missing, of another shape or too many.
    """
    if len(configuration.labels) < 2:
        raise UserError(f"{stored.about}: {CONFIG_FILE}: one class: expected two or more in id2label")
    expected, shapes = classifier_shapes(configuration), stored.shapes
    if wrong := sorted(name for name in {**expected, **shapes} if expected.get(name) != shapes.get(name)):
        first = wrong[0]
        is_it = "is missing" if first not in shapes else f"has the shape {shapes[first]}"
        should = f"the shape {expected[first]}" if first in expected else "no such tensor"
        raise UserError(
            f"{stored.about}: {len(wrong)} of its weights do not fit its {CONFIG_FILE}, the first, {shortened(first)}, "
            f"{is_it}: expected {should}"
        )
