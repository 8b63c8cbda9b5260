"""Training as it stands: all that it changes, and that a snapshot has."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vjepa_mlflow.model import Head
from vjepa_mlflow.training.adam import Adam
from vjepa_mlflow.training.predictions import Predictions, gather
from vjepa_mlflow.training.ranking import rank
from vjepa_mlflow.training.snapshot import OPEN_EPOCH, OPEN_EPOCH_VALUES, HostMemory, Snapshot, read_snapshot


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
    """The epoch that has begun and not ended, so far.

    Attributes:
        steps: of the optimizer.
        seconds: they took.
        learning_rate: of the last of them.
        predictions: of their clips, by the head before it learnt from them.
    """

    steps: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0
    predictions: list[Predictions] = field(default_factory=list)


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

    def end_step(self, predictions: Predictions, learning_rate: float, seconds: float) -> None:
        """Takes one more step of the epoch in, which took so many seconds."""
        self.steps += 1
        self.open_epoch.steps += 1
        self.open_epoch.predictions.append(predictions)
        self.open_epoch.learning_rate = learning_rate
        self.open_epoch.seconds += seconds

    def end_epoch(self, metrics: dict[str, float], metric: str) -> None:
        """Takes an epoch's metrics in, and a copy of the head if it is the best one so far by `metric`."""
        self.epochs.append(metrics)
        self.open_epoch = OpenEpoch()
        if self._best is None or rank(metrics, metric) > rank(self._best.metrics, metric):
            self._best = BestHead(len(self.epochs), metrics, self._copy_best(self.head.state_dict()))

    def _copy_best(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, tensor in weights.items():
            self._best_weights[name].copy_(tensor)
        return self._best_weights

    def snapshot(self, memory: HostMemory | None = None) -> Snapshot:
        """A copy of everything, as it was when it was last whole.

        Args:
            memory: where it is to lie, instead of an earlier one of this training; None for new memory.
        """
        predictions = gather(self.open_epoch.predictions)._asdict() if self.open_epoch.predictions else {}
        parts: dict[str, Mapping[str, Tensor]] = {
            "head": self.head.state_dict(),
            "best": self._best.weights if self._best else {},
            "optimizer": self.optimizer.moments(),
            "outputs": predictions,
            "random": self._random,
        }
        best_epoch = self._best.epoch if self._best else 0
        about = {
            "epochs": self.epochs,
            "best_epoch": best_epoch,
            "steps": self.steps,
            OPEN_EPOCH: {stored: getattr(self.open_epoch, name) for name, stored in OPEN_EPOCH_VALUES.items()},
        }
        tensors = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
        return Snapshot((memory or HostMemory()).copy(tensors, best_epoch=best_epoch), json.dumps(about))

    def load(self, snapshot: Snapshot) -> None:
        """Goes back to where the snapshot was taken, also where that was in the middle of an epoch."""
        with self.changing():
            self._load(snapshot)

    def _load(self, snapshot: Snapshot) -> None:
        device = self._device
        self.head.load_state_dict(snapshot.part("head"))
        self.optimizer.load(snapshot.part("optimizer"))
        about = json.loads(snapshot.about)
        self.epochs, self.steps = about["epochs"], about["steps"]
        predictions = {name: value.to(device) for name, value in snapshot.part("outputs").items()}
        values = {name: about[OPEN_EPOCH][stored] for name, stored in OPEN_EPOCH_VALUES.items()}
        self.open_epoch = OpenEpoch(**values, predictions=[Predictions(**predictions)] if predictions else [])
        weights = snapshot.part("best")
        self._best = _best(about, self._copy_best(weights)) if weights else None
        _set_random_states(snapshot.part("random"), device)

    def save_best(self, path: Path) -> None:
        """Writes the best head, and the metrics of every epoch, to a file that `load_best` reads."""
        weights = {name: value.cpu() for name, value in self.best.weights.items()}
        Snapshot(weights, json.dumps({"epochs": self.epochs, "best_epoch": self.best.epoch})).write(path)


def load_best(path: Path) -> tuple[BestHead, list[dict[str, float]]]:
    """The head that `TrainingState.save_best` wrote, on the CPU, and the metrics of every epoch of its training.

    Raises:
        UserError: the file is not such a one.
    """
    snapshot = read_snapshot(path)
    return _best(json.loads(snapshot.about), dict(snapshot.tensors)), snapshot.epochs


def _best(about: Mapping[str, Any], weights: dict[str, Tensor]) -> BestHead:
    return BestHead(about["best_epoch"], about["epochs"][about["best_epoch"] - 1], weights)


def _random_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states if device.type == "cpu" else {**states, device.type: torch.cuda.get_rng_state(device)}


def _set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type in states and device.type != "cpu":
        torch.cuda.set_rng_state(states[device.type], device)
