"""What the trials of a study try, and what stops them early."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler


@dataclass(frozen=True)
class SearchMethod:
    """How a study's trials come by their values, and how they are stopped.

    Attributes:
        first: what the first trial tries; the others are left to the sampler.
        sampler: makes the sampler of a trial from its number.
        pruner: stops trials early.
    """

    first: Mapping[str, Any] = field(default_factory=dict)
    sampler: Callable[[int], BaseSampler] = lambda _: RandomSampler()
    pruner: BasePruner = field(default_factory=NopPruner)
