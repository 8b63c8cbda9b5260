"""Training as it stands after an epoch, and the files that it is kept in: safetensors with metadata in JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vjepa_mlflow.cache import write_atomically
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.model import Head
from vjepa_mlflow.training.metrics import rank

ABOUT = "training"
"""The metadata's only entry."""


@dataclass(frozen=True)
class BestHead:
    """The head of the epoch that ranks highest, see `training.rank`.

    Attributes:
        epoch: counted from 1.
        metrics: that epoch's.
        weights: a copy of the head's state dict.
    """

    epoch: int
    metrics: dict[str, float]
    weights: dict[str, Tensor]


@dataclass
class TrainingState:
    """All that training changes.

    Attributes:
        head: in training.
        optimizer: its optimizer.
        scheduler: of the learning rate.
        epochs: the metrics of epoch 1, 2, ... so far.
    """

    head: Head
    optimizer: Optimizer
    scheduler: LRScheduler
    epochs: list[dict[str, float]] = field(default_factory=list)
    _best: BestHead | None = None

    @property
    def best(self) -> BestHead:
        """The best head so far. There is one once an epoch has ended."""
        assert self._best is not None
        return self._best

    def end_epoch(self, metrics: dict[str, float], metric: str) -> None:
        """Takes an epoch's metrics in, and a copy of the head if it is the best one so far by `metric`."""
        self.epochs.append(metrics)
        if self._best is None or rank(metrics, metric) > rank(self._best.metrics, metric):
            weights = {name: tensor.detach().clone() for name, tensor in self.head.state_dict().items()}
            self._best = BestHead(len(self.epochs), metrics, weights)

    def save(self, path: Path) -> None:
        """Writes everything to a file, which appears complete or not at all.

        Raises:
            OSError: it cannot be written.
        """
        optimizer = self.optimizer.state_dict()
        moments = {
            f"{index}.{name}": value for index, values in optimizer["state"].items() for name, value in values.items()
        }
        about = {
            "epochs": self.epochs,
            "best_epoch": self.best.epoch,
            "param_groups": optimizer["param_groups"],
            "scheduler": self.scheduler.state_dict(),
        }
        tensors = {"head": self.head.state_dict(), "best": self.best.weights, "optimizer": moments}
        _write(path, {f"{part}.{name}": value for part, kept in tensors.items() for name, value in kept.items()}, about)

    def load(self, path: Path) -> None:
        """Goes back to where `save` was called.

        Raises:
            UserError: the file is not one that `save` wrote.
        """
        tensors, about = _read(path)
        self.head.load_state_dict(_part("head", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _part("optimizer", tensors).items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": moments, "param_groups": about["param_groups"]})
        self.scheduler.load_state_dict(about["scheduler"])
        self.epochs = about["epochs"]
        weights = {
            name: value.to(next(self.head.parameters()).device) for name, value in _part("best", tensors).items()
        }
        self._best = _best(about, weights)

    def save_best(self, path: Path) -> None:
        """Writes the best head, and the metrics of every epoch, to a file that `load_best` reads."""
        _write(path, self.best.weights, {"epochs": self.epochs, "best_epoch": self.best.epoch})


def load_best(path: Path) -> tuple[BestHead, list[dict[str, float]]]:
    """The head that `TrainingState.save_best` wrote, on the CPU, and the metrics of every epoch of its training.

    Raises:
        UserError: the file is not such a one.
    """
    weights, about = _read(path)
    return _best(about, weights), about["epochs"]


def _best(about: Mapping[str, Any], weights: dict[str, Tensor]) -> BestHead:
    return BestHead(about["best_epoch"], about["epochs"][about["best_epoch"] - 1], weights)


def _part(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def _write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    contiguous = {name: value.detach().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(contiguous, {ABOUT: json.dumps(about)}))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
            return tensors, json.loads(file.metadata()[ABOUT])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a training state ({one_line(error)})") from error
