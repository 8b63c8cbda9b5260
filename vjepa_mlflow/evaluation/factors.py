"""Where a model is weaker: accuracy by what can be measured of the videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr

from vjepa_mlflow.evaluation.intervals import Estimate, proportion
from vjepa_mlflow.evaluation.predictions import VideoPredictions

ERROR_RATE = 0.05
"""How often any slice is flagged by chance alone, at most, in a set where none is really worse."""


class Factor(NamedTuple):
    """What a measured property is called, to which concern of the model card it belongs, what it is and its unit."""

    title: str
    concern: str
    meaning: str
    unit: str = ""


FACTORS = {
    "scene_diversity": Factor(
        "Scene diversity", "Content diversity", "how different the clip's frames are in colour, from 0 to 1"
    ),
    "duration": Factor("Duration", "Temporal complexity", "of the whole file", "s"),
    "motion": Factor(
        "Motion", "Temporal complexity", "mean displacement of small blocks, in frames' shorter sides a second", "/s"
    ),
    "frame_difference": Factor(
        "Frame difference", "Temporal complexity", "mean change of a pixel's light from one frame to the next, of 1"
    ),
    "brightness": Factor("Brightness", "Visual quality", "mean light, from 0 (black) to 1 (white)"),
    "contrast": Factor("Contrast", "Visual quality", "standard deviation of light within a frame"),
    "sharpness": Factor("Sharpness", "Visual quality", "variance of the frames' second derivatives"),
    "resolution": Factor("Resolution", "Visual quality", "the frames' shorter side", "px"),
    "bits_per_pixel": Factor(
        "Bits per pixel", "Visual quality", "the file's size over all its frames' pixels: low where compression is high"
    ),
}
"""By the names of `video.VideoProperties`, which says how they are measured."""

TERCILES = ("lowest third", "middle third", "highest third")


@dataclass(frozen=True)
class Slice:
    """The videos of one tercile of one measured property.

    Attributes:
        factor: the property's name.
        tercile: one of `TERCILES`.
        low: the property's smallest value in it.
        high: its largest.
        videos: how many there are.
        accuracy: of them, with a 95% interval.
        p_value: of the hypothesis that they are no worse than the others, corrected for all slices.
        worse: whether they are significantly worse, see `ERROR_RATE`.
    """

    factor: str
    tercile: str
    low: float
    high: float
    videos: int
    accuracy: Estimate
    p_value: float
    worse: bool

    @property
    def span(self) -> str:
        """The range of values, with the property's unit."""
        return f"{_number(self.low)} to {_number(self.high)} {FACTORS[self.factor].unit}".rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def slice_by_factors(predictions: VideoPredictions, properties: Mapping[str, np.ndarray]) -> list[Slice]:
    """Accuracy by tercile of each property, and which of them are significantly worse than the rest of the set.

    A slice is compared with the rest by Fisher's exact test, one-sided, or where videos come in groups by the
    difference of accuracies over its cluster-robust standard error. Holm's correction over all slices keeps the chance
    of any false flag at `ERROR_RATE` or below. Equal values stay together; a property with one value is not sliced.

    Args:
        predictions: of the set.
        properties: each of shape (videos,), by a name in `FACTORS`; slices come in that order.
    """
    names = [name for name in FACTORS if name in properties]
    cuts = [(name, tercile, chosen) for name in names for tercile, chosen in _terciles(properties[name])]
    p_values = _holm([_p_worse(predictions, chosen) for _, _, chosen in cuts])
    return [
        Slice(
            factor=name,
            tercile=tercile,
            low=float(properties[name][chosen].min()),
            high=float(properties[name][chosen].max()),
            videos=int(chosen.sum()),
            accuracy=proportion(predictions.hits[chosen], predictions.groups[chosen], grouped=predictions.grouped),
            p_value=p_value,
            worse=p_value <= ERROR_RATE,
        )
        for (name, tercile, chosen), p_value in zip(cuts, p_values, strict=True)
    ]


def _terciles(values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Which videos each tercile has, by name; empty where they are all alike."""
    number = np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values)
    parts = [(name, number == index) for index, name in enumerate(TERCILES) if (number == index).any()]
    return parts if len(parts) > 1 else []


def _p_worse(predictions: VideoPredictions, chosen: np.ndarray) -> float:
    """How likely the chosen videos would do as badly as they do, or worse, if they were no different."""
    if predictions.grouped:
        return _p_worse_in_groups(predictions.hits, chosen, predictions.groups)
    return _p_of_fisher(predictions.hits, chosen)


def _p_of_fisher(hits: np.ndarray, chosen: np.ndarray) -> float:
    """How likely no more hits would be among the chosen, were as many drawn from all without replacement."""
    from scipy.stats import hypergeom  # here, since its import takes a second

    return float(hypergeom.cdf(hits[chosen].sum(), len(hits), hits.sum(), chosen.sum()))


def _p_worse_in_groups(hits: np.ndarray, chosen: np.ndarray, groups: np.ndarray) -> float:
    inside, outside = hits[chosen].mean(), hits[~chosen].mean()
    influence = np.where(chosen, (hits - inside) / chosen.sum(), (outside - hits) / (~chosen).sum())
    by_group = np.bincount(groups, weights=influence)
    count = len(np.unique(groups))
    degrees = min(len(np.unique(groups[chosen])), len(np.unique(groups[~chosen]))) - 1
    if inside >= outside or degrees < 1:
        return 1.0
    # Never below what a single mistake among the others would bring, lest groups that all agree look certain.
    variance = max((by_group**2).sum(), 1 / (~chosen).sum() ** 2) * count / (count - 1)
    return float(stdtr(degrees, (inside - outside) / np.sqrt(variance)))


def _holm(p_values: Sequence[float]) -> list[float]:
    """Corrected for as many tests as there are (Holm, 1979), in the same order."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
