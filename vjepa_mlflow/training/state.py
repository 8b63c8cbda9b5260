"""Training as it stands, and the files that it is kept in: safetensors with a digest and metadata in JSON."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.cache import write_atomically
from vjepa_mlflow.files.tensors import header, read_metadata
from vjepa_mlflow.model import Head, weights_digest
from vjepa_mlflow.training.adam import Adam
from vjepa_mlflow.training.predictions import Predictions, gather
from vjepa_mlflow.training.ranking import rank

ABOUT = "training"
DIGEST = "sha256"
"""The metadata's entries: what is not a tensor, and the digest of it and of all tensors."""

OPEN_EPOCH = "begun"
OPEN_EPOCH_VALUES = {"steps": "windows", "seconds": "seconds", "learning_rate": "learning_rate"}
"""How an epoch that has not ended, and what is known of it, are called in files."""

_BEST = "best."
"""How the names of the best head's weights begin."""

_DTYPES = {torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}
"""safetensors' names of them."""


@dataclass(frozen=True)
class BestHead:
    """The head of the epoch that ranks highest, see `training.rank`.

    Attributes:
        epoch: counted from 1.
        metrics: that epoch's.
        weights: a copy of the head's state dict, which the next best one of the same training overwrites.
    """

    epoch: int
    metrics: dict[str, float]
    weights: dict[str, Tensor]


@dataclass
class OpenEpoch:
    """What has been done of the epoch that has begun and not ended.

    Attributes:
        steps: of the optimizer.
        seconds: they took.
        learning_rate: of the last of them.
        outputs: what the head said of their clips before it learnt from them.
    """

    steps: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0
    outputs: list[Predictions] = field(default_factory=list)


@dataclass
class TrainingState:
    """All that training changes, with PyTorch's random states, which are one for the process, as they were then.

    Attributes:
        head: in training.
        optimizer: its optimizer.
        epochs: the metrics of epoch 1, 2, ... so far.
        steps: of the optimizer, so far.
        open_epoch: the epoch after those.
        is_whole: whether training can be resumed here; not while a step, or an epoch's end, changes it.
    """

    head: Head
    optimizer: Adam
    epochs: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    open_epoch: OpenEpoch = field(default_factory=OpenEpoch)
    is_whole: bool = True
    _best: BestHead | None = None
    _best_weights: dict[str, Tensor] = field(init=False)
    _random: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._random = _random_states(self._device)
        # Memory for the best head is taken before training takes all there is.
        self._best_weights = {name: torch.empty_like(tensor) for name, tensor in self.head.state_dict().items()}

    @property
    def best(self) -> BestHead:
        """The best head so far. There is one once an epoch has ended."""
        assert self._best is not None
        return self._best

    @property
    def _device(self) -> torch.device:
        return next(self.head.parameters()).device

    @contextmanager
    def changing(self) -> Iterator[None]:
        """A block that takes the state to where training can be resumed next, unless it is left by an error."""
        self.is_whole = False
        yield
        self._random = _random_states(self._device)
        self.is_whole = True

    def end_step(self, outputs: Predictions, learning_rate: float, seconds: float) -> None:
        """Takes in that the epoch has got one step further, so many seconds after it was begun or resumed."""
        self.steps += 1
        self.open_epoch.steps += 1
        self.open_epoch.outputs.append(outputs)
        self.open_epoch.learning_rate = learning_rate
        self.open_epoch.seconds += seconds

    def end_epoch(self, metrics: dict[str, float], metric: str) -> None:
        """Takes an epoch's metrics in, and a copy of the head if it is the best one so far by `metric`."""
        self.epochs.append(metrics)
        self.open_epoch = OpenEpoch()
        if self._best is None or rank(metrics, metric) > rank(self._best.metrics, metric):
            self._best = BestHead(len(self.epochs), metrics, self._keep(self.head.state_dict()))

    def _keep(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, tensor in weights.items():
            self._best_weights[name].copy_(tensor)
        return self._best_weights

    def snapshot(self, memory: "HostMemory | None" = None) -> "Snapshot":
        """A copy of everything, as it was when it was last whole.

        Args:
            memory: where it is to lie, instead of an earlier one of this training; None for new memory.
        """
        outputs = gather(self.open_epoch.outputs)._asdict() if self.open_epoch.outputs else {}
        parts: dict[str, Mapping[str, Tensor]] = {
            "head": self.head.state_dict(),
            "best": self._best.weights if self._best else {},
            "optimizer": self.optimizer.moments(),
            "outputs": outputs,
            "random": self._random,
        }
        best_epoch = self._best.epoch if self._best else 0
        about = {
            "epochs": self.epochs,
            "best_epoch": best_epoch,
            "steps": self.steps,
            OPEN_EPOCH: {stored: getattr(self.open_epoch, name) for name, stored in OPEN_EPOCH_VALUES.items()},
        }
        tensors = {f"{part}.{name}": value for part, kept in parts.items() for name, value in kept.items()}
        return Snapshot((memory or HostMemory()).copy(tensors, best_epoch=best_epoch), json.dumps(about))

    def load(self, kept: "Snapshot") -> None:
        """Goes back to where the snapshot was taken, also where that was in the middle of an epoch."""
        with self.changing():
            self._load(kept)

    def _load(self, kept: "Snapshot") -> None:
        device = self._device
        self.head.load_state_dict(kept.part("head"))
        self.optimizer.load(kept.part("optimizer"))
        about = json.loads(kept.about)
        self.epochs, self.steps = about["epochs"], about["steps"]
        outputs = {name: value.to(device) for name, value in kept.part("outputs").items()}
        values = {name: about[OPEN_EPOCH][stored] for name, stored in OPEN_EPOCH_VALUES.items()}
        self.open_epoch = OpenEpoch(**values, outputs=[Predictions(**outputs)] if outputs else [])
        weights = kept.part("best")
        self._best = _best(about, self._keep(weights)) if weights else None
        _set_random_states(kept.part("random"), device)

    def save_best(self, path: Path) -> None:
        """Writes the best head, and the metrics of every epoch, to a file that `load_best` reads."""
        weights = {name: value.cpu() for name, value in self.best.weights.items()}
        Snapshot(weights, json.dumps({"epochs": self.epochs, "best_epoch": self.best.epoch})).write(path)


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
        """Of the epoch that has begun and not ended, so far."""
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


def load_best(path: Path) -> tuple[BestHead, list[dict[str, float]]]:
    """The head that `TrainingState.save_best` wrote, on the CPU, and the metrics of every epoch of its training.

    Raises:
        UserError: the file is not such a one.
    """
    kept = read_snapshot(path)
    return _best(json.loads(kept.about), dict(kept.tensors)), kept.epochs


def _best(about: Mapping[str, Any], weights: dict[str, Tensor]) -> BestHead:
    return BestHead(about["best_epoch"], about["epochs"][about["best_epoch"] - 1], weights)


def _random_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states if device.type == "cpu" else {**states, device.type: torch.cuda.get_rng_state(device)}


def _set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type in states and device.type != "cpu":
        torch.cuda.set_rng_state(states[device.type], device)
