"""The metrics of an epoch, from its logits: see `vjepa_mlflow.metrics`."""

import torch
from torch import Tensor
from torch.nn import functional as F


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
