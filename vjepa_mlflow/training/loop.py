"""Features to the best head: the training loop."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import get_scheduler

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.features import EvaluationSet, LabelledFeatures, TrainingSet
from vjepa_mlflow.iteration import batches, progress
from vjepa_mlflow.model import Head, autocast, training_numerics
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.training.metrics import classification_metrics

EVALUATION_BATCH = 16


@dataclass(frozen=True)
class BestHead:
    """The head of the epoch with the highest validation accuracy; of several such, the one with the lowest loss.

    Attributes:
        epoch: counted from 1.
        metrics: that epoch's.
        weights: a copy of the head's state dict, on the CPU.
    """

    epoch: int
    metrics: dict[str, float]
    weights: dict[str, Tensor]


class Predictions(NamedTuple):
    """Logits of shape (clips, classes) and class indices of shape (clips,), on the CPU."""

    logits: Tensor
    labels: Tensor


def fit(
    head: Head,
    *,
    train: TrainingSet,
    val: EvaluationSet,
    recipe: Recipe,
    on_epoch: Callable[[int, dict[str, float]], None],
) -> BestHead:
    """Trains the head with Adam and returns it as it was after its best epoch.

    One optimizer step sees a window of `gradient_accumulation_steps` micro-batches of `batch_size` clips. Its loss is
    the mean over the clips that the window really has, so the last, smaller window of an epoch weighs its clips by its
    own size.

    Args:
        head: trained in place, on its own device.
        train: the training features.
        val: the validation features.
        recipe: the values of the run.
        on_epoch: called after each epoch with its number, from 1, and its metrics.

    Raises:
        UserError: the loss is no longer a finite number.
    """
    device = next(head.parameters()).device
    window_size = recipe.gradient_accumulation_steps * recipe.batch_size
    class_weights = _class_weights(train.labels, recipe.class_weights).to(device)
    optimizer = torch.optim.Adam(head.parameters(), lr=recipe.learning_rate)
    steps = recipe.epochs * math.ceil(len(train) / window_size)
    scheduler = get_scheduler(recipe.scheduler, optimizer, num_warmup_steps=0, num_training_steps=steps)
    best: BestHead | None = None

    for epoch in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        outputs: list[Predictions] = []
        learning_rate = recipe.learning_rate
        clips = progress(
            train.epoch(epoch), total=len(train), description=f"Epoch {epoch}/{recipe.epochs}", unit="clip"
        )

        for window in batches(clips, window_size):
            window_weight = class_weights[[label for _, label in window]].sum()
            for micro_batch in batches(window, recipe.batch_size):
                features, labels = _collate(micro_batch, device)
                with training_numerics(device, recipe.precision):
                    logits = head(features)
                losses = F.cross_entropy(logits.float(), labels, weight=class_weights, reduction="sum")
                (losses / window_weight).backward()
                outputs.append(Predictions(logits.detach(), labels))
            learning_rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

        trained = classification_metrics(*_gather(outputs))
        seconds = time.perf_counter() - started
        if not math.isfinite(trained["loss"]):
            raise UserError(
                f"training loss became {trained['loss']} in epoch {epoch} with learning_rate={recipe.learning_rate}: "
                f"expected a finite number; try a lower rate"
            )
        validated = classification_metrics(*predict(head, val, precision=recipe.precision, name="Validation"))
        metrics = {
            "train_loss": trained["loss"],
            "train_accuracy": trained["accuracy"],
            **{f"val_{name}": value for name, value in validated.items()},
            "learning_rate": learning_rate,
            "clips_per_second": len(train) / seconds,
        }
        on_epoch(epoch, metrics)

        if best is None or _rank(metrics) > _rank(best.metrics):
            best = BestHead(epoch, metrics, _copy_weights(head))
        if recipe.patience and epoch - best.epoch >= recipe.patience:
            break

    assert best is not None  # a recipe has at least one epoch
    return best


@torch.no_grad()
def predict(head: Head, clips: EvaluationSet, *, precision: str, name: str) -> Predictions:
    """Runs the head over a set."""
    device = next(head.parameters()).device
    head.eval()
    outputs = []
    bar = progress(clips, total=len(clips), description=name, unit="clip")
    for batch in batches(bar, EVALUATION_BATCH):
        features, labels = _collate(batch, device)
        with autocast(device, precision):
            outputs.append(Predictions(head(features), labels))
    head.train()
    return _gather(outputs)


def _rank(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics["val_accuracy"], -metrics["val_loss"]


def _class_weights(labels: list[int], kind: str) -> Tensor:
    counts = torch.bincount(torch.tensor(labels)).float()
    # The formula of scikit-learn's class_weight="balanced".
    return len(labels) / (len(counts) * counts) if kind == "balanced" else torch.ones_like(counts)


def _collate(batch: list[LabelledFeatures], device: torch.device) -> tuple[Tensor, Tensor]:
    features = torch.stack([clip.features.to(device) for clip in batch])
    return features, torch.tensor([clip.label for clip in batch], device=device)


def _gather(outputs: list[Predictions]) -> Predictions:
    logits, labels = zip(*outputs, strict=True)
    return Predictions(torch.cat(logits).float().cpu(), torch.cat(labels).cpu())


def _copy_weights(head: Head) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in head.state_dict().items()}
