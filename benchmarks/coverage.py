"""How often the 95% intervals of an evaluation hold the truth, by simulation.

    python -m benchmarks.coverage --json benchmarks/results/coverage.json

Sets are drawn whose videos come in groups: few or many, even or uneven, with a correlation of hits within them. Groups
differ in one of two ways. `degree`: a model is surer or less sure of a whole group, and the true class's probability
with it (the margin by which it wins is normal, with a part that the group shares). `kind`: some groups are hit and
others missed, whatever the model's confidence (the groups' shares of hits have a beta distribution). The truth is that
of so many videos that chance plays no part. For comparison, the bias-corrected bootstrap of groups that came before.
"""

import argparse
import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtr, ndtri

from benchmarks import common
from vjepa_mlflow.evaluation import Estimate, VideoPredictions, measure

CLASSES = 5
MEAN_SIZE = 16
SHARPNESS = 3.0
"""The margin's standard deviation, in nats."""

SIZES = ("even", "steps", "halves")
ALONE = "alone"
REPLICATES = 1000
"""Drawings of the bootstrap."""


class Cell(NamedTuple):
    """What sets are drawn of: how groups differ, how many they are, how large, how alike inside, and how accurate."""

    groups_differ_in: str
    groups: int
    sizes: str
    correlation: float
    accuracy: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups-differ-in", nargs="+", default=["degree", "kind"], choices=["degree", "kind"])
    parser.add_argument("--groups", nargs="*", type=int, default=[4, 5, 6, 8, 10, 20])
    parser.add_argument("--sizes", nargs="+", default=["even", "halves"], choices=SIZES)
    parser.add_argument("--correlations", nargs="+", type=float, default=[0.0, 0.2, 0.5])
    parser.add_argument("--accuracies", nargs="+", type=float, default=[0.6, 0.8, 0.9, 0.98])
    parser.add_argument("--videos-alone", nargs="*", type=int, default=[10, 20, 50, 100], help="sets without groups")
    parser.add_argument("--bootstrap", nargs="*", type=int, default=[3, 4, 6, 10], help="groups of the comparison")
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--json")
    options = parser.parse_args()

    grid = (options.correlations, options.accuracies)
    cells = [Cell(*one) for one in itertools.product(options.groups_differ_in, options.groups, options.sizes, *grid)]
    cells += [
        Cell("degree", videos, ALONE, 0.0, accuracy)
        for videos, accuracy in itertools.product(options.videos_alone, options.accuracies)
    ]
    before = [Cell(*one) for one in itertools.product(["degree"], options.bootstrap, ["even"], *grid)]
    results = {
        "machine": common.machine(torch.device("cpu")),
        "sets": options.sets,
        "cells": [cover(cell, options.sets) for cell in cells],
        "before": [cover(cell, options.sets, bootstrapped=True) for cell in before],
    }
    common.write_json(options.json, results)


def cover(cell: Cell, sets: int, *, bootstrapped: bool = False) -> dict[str, object]:
    """The share of sets whose interval holds the truth, and the intervals' mean width, by metric."""
    truth = true_values(cell.groups_differ_in, cell.accuracy)
    found = [
        bootstrap(predictions) if bootstrapped else measure(predictions)
        for predictions in draw(cell, sets, np.random.default_rng(0))
    ]
    figures = {}
    for name in found[0].keys() & truth.keys():
        ends = np.array([[one[name].low, one[name].high] for one in found])
        inside = (ends[:, 0] <= truth[name]) & (truth[name] <= ends[:, 1])
        figures[name] = {
            "coverage": round(float(inside.mean()), 4),
            "width": round(float((ends[:, 1] - ends[:, 0]).mean()), 4),
        }
    told = "  ".join(f"{name} {one['coverage']:.3f} ({one['width']:.3f})" for name, one in sorted(figures.items()))
    print(*cell, "bootstrap" if bootstrapped else "", told, flush=True)
    return {**cell._asdict(), "metrics": figures}


@functools.cache
def true_values(groups_differ_in: str, accuracy: float) -> dict[str, float]:
    """Of endlessly many videos. All classes are alike, so that balanced accuracy and macro F1 are the accuracy."""
    many = Cell(groups_differ_in, 300_000, ALONE, 0.0, accuracy)
    values = {name: estimate.value for name, estimate in measure(next(draw(many, 1, np.random.default_rng(1)))).items()}
    exact = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), accuracy)
    return {"loss": values["loss"], "calibration_error": values["calibration_error"], **exact}


def group_sizes(groups: int, sizes: str) -> np.ndarray:
    """Videos of each group; uneven ones have from 1 to 10 times as many, in equal ratios or at both ends."""
    if sizes == ALONE:
        return np.ones(groups, dtype=int)
    place = np.arange(groups) / (groups - 1)
    ratios = 10 ** {"even": 0 * place, "steps": place, "halves": np.round(place)}[sizes]
    return np.maximum(1, np.round(MEAN_SIZE * ratios / ratios.mean())).astype(int)


def draw(cell: Cell, sets: int, generator: np.random.Generator) -> Iterator[VideoPredictions]:
    counts = group_sizes(cell.groups, cell.sizes)
    groups = np.repeat(np.arange(len(counts)), counts)
    labels = [str(index) for index in range(CLASSES)]
    for _ in range(sets):
        if cell.groups_differ_in == "degree":
            hits, best = hits_by_degree(cell, groups, generator)
        else:
            hits, best = hits_by_kind(cell, groups, generator)
        targets = generator.integers(CLASSES, size=len(groups))
        others = (targets + generator.integers(1, CLASSES, size=len(groups))) % CLASSES
        probabilities = np.repeat(((1 - best) * 0.1 / (CLASSES - 2))[:, None], CLASSES, axis=1)
        rows = np.arange(len(groups))
        probabilities[rows, np.where(hits, targets, others)] = best
        probabilities[rows, np.where(hits, others, targets)] = (1 - best) * 0.9
        yield VideoPredictions(labels, targets, probabilities, groups)


def hits_by_degree(cell: Cell, groups: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hits, and the confidence in each answer."""
    shared = shared_variance(cell.accuracy, cell.correlation)
    own = generator.normal(size=len(groups))
    margins = ndtri(cell.accuracy) + np.sqrt(shared) * generator.normal(size=groups[-1] + 1)[groups]
    margins = SHARPNESS * (margins + np.sqrt(1 - shared) * own)
    return margins > 0, 0.9 / (0.9 + np.exp(-np.abs(margins)))


def hits_by_kind(cell: Cell, groups: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hits, and the confidence in each answer."""
    shares = np.full(groups[-1] + 1, cell.accuracy)
    if cell.correlation:
        scale = (1 - cell.correlation) / cell.correlation
        shares = generator.beta(cell.accuracy * scale, (1 - cell.accuracy) * scale, size=len(shares))
    return generator.random(len(groups)) < shares[groups], np.clip(generator.beta(8, 2, size=len(groups)), 0.5, 0.999)


@functools.cache
def shared_variance(accuracy: float, correlation: float) -> float:
    """The group's part of a margin with which hits are correlated so much, by bisection."""
    points = ndtri((np.arange(2000) + 0.5) / 2000)
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        shares = ndtr((ndtri(accuracy) + np.sqrt(middle) * points) / np.sqrt(1 - middle))
        less = shares.var() < correlation * accuracy * (1 - accuracy)
        low, high = (middle, high) if less else (low, middle)
    return low


def bootstrap(predictions: VideoPredictions) -> dict[str, Estimate]:
    """Bias-corrected percentiles (Efron, 1981) of accuracy and log loss over groups that are drawn with replacement."""
    of_target = predictions.probabilities[np.arange(len(predictions)), predictions.targets]
    videos = np.stack([np.ones(len(predictions)), predictions.hits, -np.log(of_target)], axis=1)
    sums = np.stack([np.bincount(predictions.groups, weights=column) for column in videos.T], axis=1)
    rows = np.random.default_rng(0).integers(len(sums), size=(REPLICATES, len(sums)))
    drawn, total = sums[rows].sum(axis=1), sums.sum(axis=0)
    estimates = {}
    for name, column in (("accuracy", 1), ("loss", 2)):
        value, values = total[column] / total[0], drawn[:, column] / drawn[:, 0]
        below = np.clip(((values < value).mean() + (values <= value).mean()) / 2, 1 / REPLICATES, 1 - 1 / REPLICATES)
        low, high = np.quantile(values, ndtr(2 * ndtri(below) + ndtri([0.025, 0.975])))
        estimates[name] = Estimate(float(value), float(low), float(high))
    return estimates


if __name__ == "__main__":
    main()
