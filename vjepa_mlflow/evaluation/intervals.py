"""95% intervals: what a figure could as well have been with other videos, or other groups of them, of the same kind.

Nothing is drawn. A figure's standard error comes from leaving out one group after the other; how many of them an
interval reaches is Student's t, with the degrees of freedom that so few and so uneven groups have (Bell and McCaffrey,
Survey Methodology 28, 2002). `benchmarks.coverage` measures what the intervals hold.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri, stdtrit

LEVEL = 0.95
FEWEST = 4
"""Groups below which no interval is given: their spread is too uncertain for one that means anything."""

TOO_FEW = "too few groups"
"""What is said in its place."""

VALUES_AT_ONCE = 1 << 22
"""Values of a matrix of sums, which bounds the memory."""

Measure = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Gives figures by name, each of shape (rows,), for sums over videos, of shape (rows, columns)."""

Ends = tuple[float, float]


class Estimate(NamedTuple):
    """A figure and its 95% interval, whose ends are None where there are too few groups to tell."""

    value: float
    low: float | None
    high: float | None

    @property
    def ends(self) -> Ends | None:
        return None if self.low is None or self.high is None else (self.low, self.high)

    def interval(self, digits: int) -> str:
        """Both ends with so many decimals, or `TOO_FEW`."""
        return TOO_FEW if self.ends is None else f"{self.ends[0]:.{digits}f} to {self.ends[1]:.{digits}f}"


def proportion(hits: np.ndarray, groups: np.ndarray, *, grouped: bool = False) -> Estimate:
    """The share of hits.

    Videos of their own have Wilson's score interval (1927), however few they are. That of groups is never narrower, see
    `estimate_shares`.

    Args:
        hits: of shape (videos,).
        groups: which videos belong together, of shape (videos,), any numbers.
        grouped: whether the whole set has groups, whatever these videos of it have.
    """
    share = float(hits.mean())
    alone = _wilson(share, len(hits))
    count = len(np.unique(groups))
    if count < FEWEST and (grouped or count < len(hits)):
        return Estimate(share, None, None)
    if count == len(hits):
        return Estimate(share, *alone)
    columns = np.stack([hits, np.ones(len(hits))], axis=1)
    spread = _spread(lambda sums: {"share": sums[:, 0] / sums[:, 1]}, columns, groups)
    return Estimate(share, *_widest(alone, spread.ends_of_share("share")))


def estimate_shares(measure: Measure, columns: np.ndarray, groups: np.ndarray) -> dict[str, Estimate]:
    """Figures from 0 to 1.

    Intervals are symmetric for the logarithm of the odds, and hold those of videos of their own. No interval is nearer
    to 1 than Wilson's of as many right answers as there are groups, nor to 0 than that of as many wrong ones: a rare
    group of another kind may not be in the set, whatever number of videos of the others agree. Uneven groups count as
    fewer, by Kish (Survey Sampling, 1965).

    Args:
        measure: the figures.
        columns: what it takes the sums of, of shape (videos, columns).
        groups: which videos belong together, of shape (videos,), any numbers.
    """
    return _estimate(measure, columns, groups, _Spread.ends_of_share)


def estimate_means(measure: Measure, columns: np.ndarray, groups: np.ndarray) -> dict[str, Estimate]:
    """Figures from 0 on, such as losses: the same, with intervals that are symmetric for their logarithm.

    Args:
        measure: the figures.
        columns: what it takes the sums of, of shape (videos, columns).
        groups: which videos belong together, of shape (videos,), any numbers.
    """
    return _estimate(measure, columns, groups, _Spread.ends_of_mean)


class _Spread(NamedTuple):
    """How figures vary from set to set.

    Attributes:
        values: the figures by name.
        errors: their standard errors.
        reach: of an interval, in standard errors, to each side.
        effective: how many groups of equal size say as much.
    """

    values: dict[str, float]
    errors: dict[str, float]
    reach: float
    effective: float

    def ends_of_share(self, name: str) -> Ends:
        value = self.values[name]
        lowest, highest = _wilson(1.0, self.effective)[0], _wilson(0.0, self.effective)[1]
        if not 0 < value < 1:
            return min(value, lowest), max(value, highest)
        reach = self.reach * self.errors[name] / (value * (1 - value))
        low, high = expit(logit(value) + np.array([-reach, reach]))
        return min(float(low), lowest), max(float(high), highest)

    def ends_of_mean(self, name: str) -> Ends:
        value = self.values[name]
        if value <= 0:
            return value, value
        # Never a factor beyond what a float takes: a few uneven groups have next to no degrees of freedom.
        factor = float(np.exp(min(self.reach * self.errors[name] / value, 300.0)))
        return value / factor, value * factor


def _estimate(
    measure: Measure, columns: np.ndarray, groups: np.ndarray, ends: Callable[[_Spread, str], Ends]
) -> dict[str, Estimate]:
    count = len(np.unique(groups))
    if count < FEWEST:
        values = measure(columns.sum(axis=0, keepdims=True))
        return {name: Estimate(float(value[0]), None, None) for name, value in values.items()}
    spreads = [_spread(measure, columns, np.arange(len(columns)))]
    if count < len(columns):
        spreads.append(_spread(measure, columns, groups))
    return {
        name: Estimate(value, *_widest(*(ends(spread, name) for spread in spreads)))
        for name, value in spreads[0].values.items()
    }


def _widest(*intervals: Ends) -> Ends:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def _spread(measure: Measure, columns: np.ndarray, groups: np.ndarray) -> _Spread:
    """By the changes that leaving out one group after the other makes.

    Squares are weighted by the share of videos that stay, which for a mean is the variance that Bell and McCaffrey call
    CR2: no bias where videos are independent, and the delete-one jackknife's (Tukey, 1958) where groups are even.
    """
    _, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.add.reduceat(columns[np.argsort(groups, kind="stable")], np.cumsum(sizes) - sizes, axis=0, dtype=float)
    total = sums.sum(axis=0)
    values = {name: float(value[0]) for name, value in measure(total[None]).items()}
    squares = dict.fromkeys(values, 0.0)
    shares = sizes / sizes.sum()
    at_once = max(1, VALUES_AT_ONCE // columns.shape[1])
    for start in range(0, len(sums), at_once):
        part = slice(start, start + at_once)
        for name, left in measure(total - sums[part]).items():
            squares[name] += float((1 - shares[part]) @ (left - values[name]) ** 2)
    return _Spread(
        values=values,
        errors={name: float(np.sqrt(square)) for name, square in squares.items()},
        reach=float(stdtrit(_degrees(shares), (1 + LEVEL) / 2)),
        effective=1 / float(shares @ shares),
    )


def _degrees(shares: np.ndarray) -> float:
    """Satterthwaite's degrees of freedom of a mean's CR2 variance over groups with these shares of the videos.

    That is twice the variance's squared mean over its own variance, for independent videos; equal groups have one less
    than there are groups.
    """
    weights = shares**2 / (1 - shares)
    return 1 / float(shares @ shares + weights.sum() ** 2 - weights @ weights)


def _wilson(share: float, count: float) -> Ends:
    z = ndtri((1 + LEVEL) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    # Both ends hold the share itself, which rounding may leave outside at 0 and 1.
    return max(0.0, min(share, float(middle - reach))), min(1.0, max(share, float(middle + reach)))
