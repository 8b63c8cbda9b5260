"""Figures of a set, each with its interval, and of every class."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vjepa_mlflow.evaluation.intervals import Estimate, bootstrap, proportion
from vjepa_mlflow.evaluation.outcomes import Outcomes

TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "top5_accuracy": "Top-5 accuracy",
    "macro_f1": "Macro F1",
    "loss": "Log loss",
    "calibration_error": "Calibration error",
}
"""The metrics of a set, by their names in MLflow without the set's."""

MEANINGS = {
    "accuracy": "share of videos whose most probable class is the true one",
    "balanced_accuracy": "mean recall over the classes",
    "top5_accuracy": "share of videos whose true class is among the five most probable",
    "macro_f1": "mean over the classes of the harmonic mean of precision and recall",
    "loss": "mean negative logarithm of the true class's probability, in nats; lower is better",
    "calibration_error": "how far confidence and accuracy are apart, over 15 bins of confidence; lower is better",
}

LOWER_IS_BETTER = ("loss", "calibration_error")

BINS = 15
"""Of equal width, for the calibration error, as in Guo et al. (2017), arXiv 1706.04599."""

LEAST = 1e-15
"""The smallest probability that a logarithm is taken of."""


def measure(outcomes: Outcomes) -> dict[str, Estimate]:
    """The metrics of a set by name, see `MEANINGS`, with 95% intervals.

    Intervals come from a bootstrap over the units; those of accuracy and top-5 accuracy see `intervals.proportion`.
    Where every prediction is right, or every one wrong, no drawing differs, and accuracy's interval stands for those of
    balanced accuracy and macro F1.
    """
    estimates = bootstrap(_Weighted(outcomes), outcomes.units)
    top5 = np.take_along_axis(_ranks(outcomes), outcomes.targets[:, None], axis=1)[:, 0] < 5
    proportions = {
        "accuracy": proportion(outcomes.hits, outcomes.units),
        "top5_accuracy": proportion(top5, outcomes.units),
    }
    estimates |= proportions
    if outcomes.hits.all() or not outcomes.hits.any():
        estimates |= dict.fromkeys(("balanced_accuracy", "macro_f1"), proportions["accuracy"])
    return {name: estimates[name] for name in TITLES}


def _ranks(outcomes: Outcomes) -> np.ndarray:
    """Each class's place in a video's answer, from 0, of shape (videos, classes)."""
    return np.argsort(np.argsort(-outcomes.probabilities, axis=1, kind="stable"), axis=1, kind="stable")


class _Weighted:
    """The metrics that are no proportions, of videos that count more or less."""

    def __init__(self, outcomes: Outcomes):
        classes = np.eye(len(outcomes.labels))
        self._true = classes[outcomes.targets]
        self._predicted = classes[outcomes.predicted]
        self._hits = self._true * outcomes.hits[:, None]
        of_target = np.take_along_axis(outcomes.probabilities, outcomes.targets[:, None], axis=1)[:, 0]
        self._losses = -np.log(np.maximum(of_target, LEAST))
        gaps = outcomes.hits - outcomes.confidences
        self._gaps_by_bin = np.eye(BINS)[calibration_bins(outcomes.confidences)] * gaps[:, None]

    def __call__(self, weights: np.ndarray) -> Mapping[str, np.ndarray]:
        """Figures of shape (replicates,) for weights of shape (replicates, videos)."""
        total = weights.sum(axis=1)
        true, predicted, hits = weights @ self._true, weights @ self._predicted, weights @ self._hits
        return {
            "balanced_accuracy": _mean_of_classes(hits, true),
            "macro_f1": _mean_of_classes(2 * hits, true + predicted),
            "loss": weights @ self._losses / total,
            "calibration_error": np.abs(weights @ self._gaps_by_bin).sum(axis=1) / total,
        }


def _mean_of_classes(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """The mean quotient over the classes that occur, of shape (replicates,)."""
    occur = denominators > 0
    quotients = np.divide(numerators, denominators, out=np.zeros_like(numerators), where=occur)
    return quotients.sum(axis=1) / occur.sum(axis=1)


def calibration_bins(confidences: np.ndarray) -> np.ndarray:
    """The bin of each confidence; a confidence on an edge belongs to the lower one."""
    return np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)


@dataclass(frozen=True)
class ClassResult:
    """How a model does on one class.

    Attributes:
        label: the class.
        support: its videos.
        precision: the share of the predictions of this class that are right; 0 where there are none.
        recall: the share of its videos that are recognised, with a 95% interval.
        f1: the harmonic mean of both.
        confused_with: the classes that its videos are taken for instead, and how often, most often first.
    """

    label: str
    support: int
    precision: float
    recall: Estimate
    f1: float
    confused_with: list[tuple[str, int]]


def measure_classes(outcomes: Outcomes) -> list[ClassResult]:
    """The classes that occur in the set, the most difficult first: by recall, then by F1."""
    results = [
        _measure_class(outcomes, index) for index in range(len(outcomes.labels)) if (outcomes.targets == index).any()
    ]
    return sorted(results, key=lambda result: (result.recall.value, result.f1))


def _measure_class(outcomes: Outcomes, index: int) -> ClassResult:
    confusion = outcomes.confusion
    right, true, predicted = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
    mine = outcomes.targets == index
    others = [other for other in np.argsort(-confusion[index], kind="stable") if other != index]
    return ClassResult(
        label=outcomes.labels[index],
        support=int(true),
        precision=float(right / predicted) if predicted else 0.0,
        recall=proportion(outcomes.hits[mine], outcomes.units[mine]),
        f1=float(2 * right / (true + predicted)),
        confused_with=[
            (outcomes.labels[other], int(confusion[index, other])) for other in others if confusion[index, other]
        ],
    )
