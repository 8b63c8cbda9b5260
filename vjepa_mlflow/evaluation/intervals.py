"""95% intervals: what a figure could as well have been with other videos of the same kind."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

LEVEL = 0.95
REPLICATES = 2000
"""Drawings of a bootstrap."""

WEIGHTS_AT_ONCE = 1 << 22
"""Values of a matrix of weights, which bounds the memory."""

Measure = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Gives figures by name, each of shape (replicates,), for weights of the videos, of shape (replicates, videos)."""


class Estimate(NamedTuple):
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float


def bootstrap(measure: Measure, units: np.ndarray, *, seed: int = 0) -> dict[str, Estimate]:
    """Bias-corrected percentile intervals (Efron, 1981) over units that are drawn again with replacement.

    Args:
        measure: the figures.
        units: which videos belong together, numbered from 0, of shape (videos,).
        seed: of the drawings.
    """
    values = {name: float(value[0]) for name, value in measure(np.ones((1, len(units)))).items()}
    drawn = [measure(weights) for weights in _draw(units, seed)]
    return {
        name: _bias_corrected(value, np.concatenate([figures[name] for figures in drawn]))
        for name, value in values.items()
    }


def proportion(hits: np.ndarray, units: np.ndarray, *, seed: int = 0) -> Estimate:
    """The share of hits.

    Videos of their own give Wilson's score interval (1927), which also says something of a share of 0 or 1. Groups
    are bootstrapped; where all drawings agree, Wilson's interval is that of as many videos as there are groups.

    Args:
        hits: of shape (videos,).
        units: which videos belong together, of shape (videos,), numbered from 0 or with gaps.
        seed: of a bootstrap.
    """
    share = float(hits.mean())
    found, units = np.unique(units, return_inverse=True)
    if len(found) < len(hits):
        estimate = bootstrap(lambda weights: {"share": weights @ hits / weights.sum(axis=1)}, units, seed=seed)["share"]
        if estimate.low < estimate.high:
            return estimate
    return Estimate(share, *_wilson(share, len(found)))


def _wilson(share: float, count: int) -> tuple[float, float]:
    z = ndtri((1 + LEVEL) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def _draw(units: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yields weights of shape (replicates, videos): how often each video's unit was drawn."""
    generator = np.random.default_rng(seed)
    count = int(units.max()) + 1
    at_once = max(1, WEIGHTS_AT_ONCE // len(units))
    for start in range(0, REPLICATES, at_once):
        rows = min(at_once, REPLICATES - start)
        drawn = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)[:, units].astype(float)


def _bias_corrected(value: float, drawn: np.ndarray) -> Estimate:
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    # Never quite 0 or 1, where the correction would have no end.
    shift = ndtri(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    ends = ndtr(2 * shift + ndtri([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    low, high = np.quantile(drawn, ends)
    return Estimate(value, float(low), float(high))
