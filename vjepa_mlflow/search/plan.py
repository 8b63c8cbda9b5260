"""A sweep's file: what to search for, how, and how long."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from optuna import pruners, samplers

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.reading import read_bounded
from vjepa_mlflow.search.quiet import no_experimental_warnings
from vjepa_mlflow.search.space import SearchSpace, read_space
from vjepa_mlflow.training import DIRECTIONS

SAMPLERS: dict[str, Any] = {
    "tpe": samplers.TPESampler,
    "gp": samplers.GPSampler,
    "random": samplers.RandomSampler,
}
PRUNERS: dict[str, Any] = {
    "none": pruners.NopPruner,
    "median": pruners.MedianPruner,
    "percentile": pruners.PercentilePruner,
    "successive_halving": pruners.SuccessiveHalvingPruner,
}
"""Of Optuna. Their steps are epochs, counted from 1."""

LARGEST = 1 << 20
"""Bytes of a sweep's file."""

KEYS = ("metric", "direction", "trials", "sampler", "pruner", "space")


@dataclass(frozen=True)
class Algorithm:
    """A sampler or a pruner of Optuna by its name here, with the keyword arguments of its class."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Its name and its options, in an order of their own."""
        return ", ".join([self.name, *(f"{key} {value}" for key, value in sorted(self.options.items()))])


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep's file says.

    Attributes:
        metric: what decides which trial, and which of its epochs, is the best: one of `training.DIRECTIONS`.
        direction: `maximize` or `minimize`.
        trials: how many to finish.
        sampler: what suggests values.
        pruner: what stops trials early.
        space: the values to try.
    """

    metric: str
    direction: Literal["maximize", "minimize"]
    trials: int
    sampler: Algorithm
    pruner: Algorithm
    space: SearchSpace

    def make_sampler(self, *, seed: int, trial: int) -> samplers.BaseSampler:
        """The sampler for one trial.

        Each trial has its own random state, so that a sweep which was interrupted suggests what it would have
        suggested without: a sampler with one seed for all would begin its numbers again.
        """
        own = int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])
        with no_experimental_warnings():
            sampler: samplers.BaseSampler = SAMPLERS[self.sampler.name](seed=own, **self.sampler.options)
        return sampler

    def make_pruner(self) -> pruners.BasePruner:
        pruner: pruners.BasePruner = PRUNERS[self.pruner.name](**self.pruner.options)
        return pruner


def read_plan(path: Path) -> SweepPlan:
    """Reads a sweep's file.

    Raises:
        UserError: it is not there, or a key or value is not as expected; the message names it.
    """
    entries = _load(path)
    for key in entries:
        if key not in KEYS:
            raise UserError(f"{path}: {key}: unknown key: expected {', '.join(KEYS)}")
    for key in KEYS:
        if key not in entries:
            raise UserError(f"{path}: no {key}: expected {', '.join(KEYS)}")
    metric = entries["metric"]
    if metric not in DIRECTIONS:
        raise UserError(f"{path}: metric: {metric!r}: expected one of {', '.join(DIRECTIONS)}")
    if entries["direction"] != DIRECTIONS[metric]:
        raise UserError(f"{path}: direction: {entries['direction']!r}: expected {DIRECTIONS[metric]} for {metric}")
    return SweepPlan(
        metric=metric,
        direction=DIRECTIONS[metric],
        trials=check_count(f"{path}: trials", entries["trials"]),
        sampler=_read_algorithm(f"{path}: sampler", entries["sampler"], SAMPLERS),
        pruner=_read_algorithm(f"{path}: pruner", entries["pruner"], PRUNERS),
        space=read_space(str(path), entries["space"]),
    )


def check_count(name: str, value: Any) -> int:
    """Refuses what is no number of things to do.

    Raises:
        UserError: it is no whole number of at least 1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{name}={value}: expected a whole number of at least 1")
    return value


def _load(path: Path) -> dict[str, Any]:
    try:
        entries = yaml.safe_load(read_bounded(path, at_most=LARGEST).decode())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): expected a sweep's YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no YAML ({' '.join(str(error).split())}): expected a sweep's file") from error
    if not isinstance(entries, dict):
        raise UserError(f"{path}: expected {', '.join(KEYS)}")
    return entries


def _read_algorithm(where: str, entry: Any, classes: Mapping[str, Any]) -> Algorithm:
    if not isinstance(entry, dict) or entry.get("name") not in classes:
        name = entry.get("name") if isinstance(entry, dict) else entry
        raise UserError(f"{where}: {name!r}: expected a name of {', '.join(classes)}")
    options = {key: value for key, value in entry.items() if key != "name"}
    algorithm = classes[entry["name"]]
    allowed = [name for name in inspect.signature(algorithm).parameters if name != "seed"]
    for key in options:
        if key not in allowed:
            raise UserError(f"{where}.{key}: unknown key: expected {', '.join(['name', *allowed])}")
    try:
        algorithm(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {one_line(error)}") from error
    return Algorithm(entry["name"], options)
