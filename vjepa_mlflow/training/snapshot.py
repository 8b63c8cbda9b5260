"""A training's state as it was once, in the host's memory or in a file: safetensors with a digest and JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.cache import write_atomically
from vjepa_mlflow.files.tensors import header, read_metadata
from vjepa_mlflow.model import weights_digest

ABOUT = "training"
DIGEST = "sha256"
"""The metadata's entries: what is not a tensor, and the digest of it and of all tensors."""

OPEN_EPOCH = "begun"
OPEN_EPOCH_VALUES = {"steps": "windows", "seconds": "seconds", "learning_rate": "learning_rate"}
"""What an epoch that has not ended, and its values, are called in files."""

_BEST = "best."
"""How the names of the best head's weights begin."""

_DTYPES = {torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}
"""safetensors' names of them."""


class HostMemory:
    """The host's memory for one snapshot after another of a training, which is asked for once.

    A GPU's tensors get page-locked memory: it is filled several times as fast.
    """

    def __init__(self) -> None:
        self._places: dict[str, Tensor] = {}
        self._best_epoch = 0

    def copy(self, tensors: Mapping[str, Tensor], *, best_epoch: int) -> dict[str, Tensor]:
        """Copies tensors to where those of their names lay before, and waits for a GPU once, at the end.

        Args:
            tensors: by name.
            best_epoch: whose head's weights are among them, which are copied once.
        """
        copies = {name: self._place(name, tensor) for name, tensor in tensors.items()}
        for name, copy in copies.items():
            if not name.startswith(_BEST) or best_epoch != self._best_epoch:
                copy.copy_(tensors[name].detach(), non_blocking=True)
        for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
            torch.cuda.current_stream(device).synchronize()
        self._best_epoch = best_epoch
        return copies

    def _place(self, name: str, tensor: Tensor) -> Tensor:
        place = self._places.get(name)
        if place is None or (place.shape, place.dtype) != (tensor.shape, tensor.dtype):
            place = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
            self._places[name] = place
        return place


@dataclass(frozen=True)
class Snapshot:
    """What a file holds.

    Attributes:
        tensors: by name, on the CPU.
        about: the rest, in JSON.
    """

    tensors: Mapping[str, Tensor]
    about: str

    @property
    def epochs(self) -> list[dict[str, float]]:
        """The metrics of epoch 1, 2, ... so far."""
        return list(json.loads(self.about)["epochs"])

    @property
    def steps(self) -> int:
        """Of the optimizer, so far."""
        return int(json.loads(self.about)["steps"])

    @property
    def best_epoch(self) -> int:
        """Counted from 1; 0 where none has ended."""
        return int(json.loads(self.about)["best_epoch"])

    @property
    def steps_of_open_epoch(self) -> int:
        """Of the optimizer, in the epoch that has not ended."""
        return int(json.loads(self.about)[OPEN_EPOCH][OPEN_EPOCH_VALUES["steps"]])

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with that of a part, by the rest of theirs."""
        return {
            key.removeprefix(f"{name}."): value for key, value in self.tensors.items() if key.startswith(f"{name}.")
        }

    def write(self, path: Path) -> None:
        """Writes a file, which appears complete or not at all.

        Raises:
            OSError: it cannot be written.
        """
        # Part by part: safetensors' own `save` first copies all, and training waits for Python's lock meanwhile.
        metadata = {ABOUT: self.about, DIGEST: weights_digest(self.tensors, self.about)}
        ordered = dict(sorted(self.tensors.items(), key=lambda named: (-named[1].element_size(), named[0])))  # aligned
        layout = {name: (_DTYPES[value.dtype], value.shape, value.nbytes) for name, value in ordered.items()}
        write_atomically(path, header(layout, metadata), *map(_values, ordered.values()))


def _values(tensor: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU."""
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data


def read_snapshot(path: Path) -> Snapshot:
    """What `Snapshot.write` wrote; its tensors are on the CPU.

    Raises:
        UserError: the file cannot be read as such, or its content is not what was written.
    """
    try:
        content = path.read_bytes()
        tensors, metadata = load(content), read_metadata(content)
        about, written = metadata[ABOUT], metadata[DIGEST]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a training state ({one_line(error)})") from error
    if written != weights_digest(tensors, about):
        raise UserError(f"{path}: was changed after it was written (its SHA-256 is another one): it is not used")
    return Snapshot(tensors, about)
