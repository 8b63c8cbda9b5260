"""Figures of a set, each with its interval, and of every class."""

from dataclasses import dataclass

import numpy as np

from vjepa_mlflow.evaluation.intervals import Estimate, estimate_means, estimate_shares, proportion
from vjepa_mlflow.evaluation.predictions import VideoPredictions
from vjepa_mlflow.metrics import METRICS

TITLES = {name: metric.title for name, metric in METRICS.items() if metric.of_sets}
"""The metrics of a set, by their names in MLflow without the set's."""

BINS = 15
"""Of equal width, for the calibration error, as in Guo et al. (2017), arXiv 1706.04599."""

LEAST = 1e-15
"""The smallest probability that a logarithm is taken of."""


def measure(predictions: VideoPredictions) -> dict[str, Estimate]:
    """The metrics of a set by name, see `vjepa_mlflow.metrics`, with 95% intervals, see `intervals`."""
    accuracy = proportion(predictions.hits, predictions.groups)
    top5 = np.take_along_axis(_ranks(predictions), predictions.targets[:, None], axis=1)[:, 0] < 5
    estimates = {
        "accuracy": accuracy,
        "top5_accuracy": proportion(top5, predictions.groups),
        "loss": _measure_loss(predictions, accuracy),
        "calibration_error": _measure_calibration(predictions, accuracy),
        **_measure_classes_together(predictions),
    }
    return {name: estimates[name] for name in TITLES}


def _ranks(predictions: VideoPredictions) -> np.ndarray:
    """Each class's place in a video's answer, from 0, of shape (videos, classes)."""
    return np.argsort(np.argsort(-predictions.probabilities, axis=1, kind="stable"), axis=1, kind="stable")


def _measure_loss(predictions: VideoPredictions, accuracy: Estimate) -> Estimate:
    """Log loss, whose interval also holds what it would be at either end of accuracy's.

    Most of a loss is that of few mistakes, and a set may have none of the worst. So the right answers that accuracy's
    interval takes for luck are counted as what they lose where the second most probable class is the true one, and the
    mistakes that it takes for bad luck as what they lose where the answer is right.
    """
    of_target = np.take_along_axis(predictions.probabilities, predictions.targets[:, None], axis=1)[:, 0]
    losses = _surprise(of_target)
    columns = np.stack([losses, np.ones(len(losses))], axis=1)
    loss = estimate_means(lambda sums: {"loss": sums[:, 0] / sums[:, 1]}, columns, predictions.groups)["loss"]
    if loss.ends is None or accuracy.ends is None:
        return loss
    second = np.sort(predictions.probabilities, axis=1)[:, -2:].min(axis=1)
    (low, high), (least_right, most_right) = loss.ends, accuracy.ends
    lucky = (accuracy.value - least_right) * _mean_of(_surprise(second) - losses, predictions.hits)
    unlucky = (most_right - accuracy.value) * _mean_of(losses - _surprise(predictions.confidences), ~predictions.hits)
    return loss._replace(low=min(low, loss.value - unlucky), high=max(high, loss.value + lucky))


def _mean_of(values: np.ndarray, chosen: np.ndarray) -> float:
    """0 of none."""
    return float(values[chosen].mean()) if chosen.any() else 0.0


def _surprise(probabilities: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(probabilities, LEAST))


def _measure_classes_together(predictions: VideoPredictions) -> dict[str, Estimate]:
    """Balanced accuracy and macro F1."""
    classes = np.eye(len(predictions.labels))
    true, predicted = classes[predictions.targets], classes[predictions.predicted]
    columns = np.concatenate([true, predicted, true * predictions.hits[:, None]], axis=1)

    def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
        true, predicted, hits = np.split(sums, 3, axis=1)
        return {
            "balanced_accuracy": _mean_of_classes(hits, true),
            "macro_f1": _mean_of_classes(2 * hits, true + predicted),
        }

    return estimate_shares(figures, columns, predictions.groups)


def _mean_of_classes(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """The mean quotient over the classes that occur, of shape (rows,)."""
    occur = denominators > 0
    quotients = np.divide(numerators, denominators, out=np.zeros_like(numerators), where=occur)
    return quotients.sum(axis=1) / occur.sum(axis=1)


def _measure_calibration(predictions: VideoPredictions, accuracy: Estimate) -> Estimate:
    """Calibration error, whose interval begins where accuracy's and mean confidence's are apart.

    It cannot be below that. In a set it is larger than it is, even where confidences are right: chance moves every bin.
    """
    gaps = (predictions.hits - predictions.confidences)[:, None] * np.eye(BINS)[
        calibration_bins(predictions.confidences)
    ]
    columns = np.concatenate([gaps, predictions.confidences[:, None], np.ones((len(gaps), 1))], axis=1)

    def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
        return {"error": np.abs(sums[:, :-2]).sum(axis=1) / sums[:, -1], "confidence": sums[:, -2] / sums[:, -1]}

    error, confidence = estimate_shares(figures, columns, predictions.groups).values()
    if error.ends is None or accuracy.ends is None or confidence.ends is None:
        return error
    (least_right, most_right), (least_sure, most_sure) = accuracy.ends, confidence.ends
    apart = max(0.0, least_right - most_sure, least_sure - most_right)
    return error._replace(low=min(error.ends[0], apart))


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


def measure_classes(predictions: VideoPredictions) -> list[ClassResult]:
    """The classes that occur in the set, the most difficult first: by recall, then by F1."""
    results = [
        _measure_class(predictions, index)
        for index in range(len(predictions.labels))
        if (predictions.targets == index).any()
    ]
    return sorted(results, key=lambda result: (result.recall.value, result.f1))


def _measure_class(predictions: VideoPredictions, index: int) -> ClassResult:
    confusion = predictions.confusion
    right, true, predicted = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
    mine = predictions.targets == index
    others = [other for other in np.argsort(-confusion[index], kind="stable") if other != index]
    return ClassResult(
        label=predictions.labels[index],
        support=int(true),
        precision=float(right / predicted) if predicted else 0.0,
        recall=proportion(predictions.hits[mine], predictions.groups[mine], grouped=predictions.grouped),
        f1=float(2 * right / (true + predicted)),
        confused_with=[
            (predictions.labels[other], int(confusion[index, other])) for other in others if confusion[index, other]
        ],
    )
