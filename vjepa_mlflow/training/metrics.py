"""Figures of a set from its logits, and which of them are better."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "val_accuracy": "maximize",
    "val_balanced_accuracy": "maximize",
    "val_top5_accuracy": "maximize",
    "val_loss": "minimize",
}
"""The metrics of an epoch that heads may be chosen by: what the validation set says."""


def rank(metrics: Mapping[str, float], metric: str) -> tuple[float, float]:
    """What compares heads by an epoch's metrics: the greater, the better. Equal ones are told apart by their loss."""
    sign = 1 if DIRECTIONS[metric] == "maximize" else -1
    return sign * metrics[metric], -metrics["val_loss"]


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Loss and accuracies over a whole set, every clip counting the same.

    Args:
        logits: shape (clips, classes).
        labels: shape (clips,), class indices.

    Returns:
        `loss`: mean cross-entropy in nats; `accuracy`; `top5_accuracy`: 1 with five classes or fewer;
        `balanced_accuracy`: mean recall over the classes that occur.
    """
    logits = logits.float()
    ranked = logits.topk(min(5, logits.shape[1])).indices
    hits = ranked == labels[:, None]
    first = hits[:, 0].float()
    recalls = [first[labels == label].mean() for label in labels.unique()]
    return {
        "loss": F.cross_entropy(logits, labels).item(),
        "accuracy": first.mean().item(),
        "top5_accuracy": hits.any(dim=1).float().mean().item(),
        "balanced_accuracy": torch.stack(recalls).mean().item(),
    }
