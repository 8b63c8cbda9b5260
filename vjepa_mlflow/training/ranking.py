"""Which epochs, and so which heads, are better than others."""

from collections.abc import Mapping

from vjepa_mlflow.metrics import METRICS

DIRECTIONS = {f"val_{name}": metric.direction for name, metric in METRICS.items() if metric.of_epochs}
"""The metrics of an epoch that heads may be chosen by: what the validation set says."""


def rank(metrics: Mapping[str, float], metric: str) -> tuple[float, float]:
    """What compares heads by an epoch's metrics: the greater, the better. Equal ones are told apart by their loss."""
    sign = 1 if DIRECTIONS[metric] == "maximize" else -1
    return sign * metrics[metric], -metrics["val_loss"]
