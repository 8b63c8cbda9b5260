"""Features to the best head: the training loop."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import VJEPA2Config, get_scheduler

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.features import Clip, EvaluationSet, TrainingSet
from vjepa_mlflow.iteration import batches, progress
from vjepa_mlflow.model import Head
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.training.gradient import WindowGradient
from vjepa_mlflow.training.metrics import classification_metrics
from vjepa_mlflow.training.predictions import Predictions, gather, predict


@dataclass(frozen=True)
class BestHead:
    """The head of the epoch with the highest validation accuracy; of several such, the one with the lowest loss.

    Attributes:
        epoch: counted from 1.
        metrics: that epoch's.
        weights: a copy of the head's state dict, on its device.
    """

    epoch: int
    metrics: dict[str, float]
    weights: dict[str, Tensor]


def fit(
    head: Head,
    config: VJEPA2Config,
    *,
    train: TrainingSet,
    val: EvaluationSet,
    recipe: Recipe,
    on_epoch: Callable[[int, dict[str, float]], None],
    following: Sequence[Clip] = (),
) -> BestHead:
    """Trains the head with Adam and returns it as it was after its best epoch.

    One optimizer step sees a window of `gradient_accumulation_steps` micro-batches of `batch_size` clips. Its loss is
    the mean over the clips that the window really has, so the last, smaller window of an epoch weighs its clips by its
    own size.

    Args:
        head: trained in place, on its own device.
        config: of the model it belongs to.
        train: the training features.
        val: the validation features.
        recipe: the values of the run.
        on_epoch: called after each epoch with its number, from 1, and its metrics.
        following: the clips that will be wanted after training, see `FeatureSource.read`.

    Raises:
        UserError: the loss is no longer a finite number.
    """
    device = next(head.parameters()).device
    window_size = recipe.gradient_accumulation_steps * recipe.batch_size
    class_weights = _class_weights(train.labels, recipe.class_weights).to(device)
    gradient = WindowGradient(
        head, config, precision=recipe.precision, window_size=window_size, class_weights=class_weights
    )
    # One kernel for all parameters, where PyTorch by itself would take many.
    optimizer = torch.optim.Adam(head.parameters(), lr=recipe.learning_rate, fused=device.type == "cuda" or None)
    steps = recipe.epochs * math.ceil(len(train) / window_size)
    scheduler = get_scheduler(recipe.scheduler, optimizer, num_warmup_steps=0, num_training_steps=steps)
    best: BestHead | None = None

    for epoch in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        outputs: list[Predictions] = []
        learning_rate = recipe.learning_rate
        upcoming = train.clips(epoch + 1) if epoch < recipe.epochs else following
        features = train.read(epoch, following=[*val.clips, *upcoming])
        clips = progress(features, total=len(train), description=f"Epoch {epoch}/{recipe.epochs}", unit="clip")

        for window in batches(clips, window_size):
            outputs.append(gradient.compute(window))
            learning_rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            scheduler.step()

        trained = classification_metrics(*gather(outputs))
        seconds = time.perf_counter() - started
        if not math.isfinite(trained["loss"]):
            raise UserError(
                f"training loss became {trained['loss']} in epoch {epoch} with learning_rate={recipe.learning_rate}: "
                f"expected a finite number; try a lower rate"
            )
        validated = classification_metrics(
            *predict(head, val, precision=recipe.precision, name="Validation", following=upcoming)
        )
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


def _rank(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics["val_accuracy"], -metrics["val_loss"]


def _class_weights(labels: list[int], kind: str) -> Tensor:
    counts = torch.bincount(torch.tensor(labels)).float()
    # The formula of scikit-learn's class_weight="balanced".
    return len(labels) / (len(counts) * counts) if kind == "balanced" else torch.ones_like(counts)


def _copy_weights(head: Head) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}
