"""The gradient of a window, from as many of its clips at once as fit."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vjepa_mlflow.errors import UserError, remark
from vjepa_mlflow.features import LabelledFeatures
from vjepa_mlflow.model import Captured, Head, is_out_of_memory, training_head
from vjepa_mlflow.training.predictions import Predictions

AT_ONCE = 16
"""Clips in one pass through the head, halved whenever memory runs out."""


class WindowGradient:
    """Forward and backward passes over the clips of one optimizer step.

    The loss of a window is the mean over its clips, weighted by their classes. How many of them go through the head
    together changes nothing but time and rounding.

    Args:
        head: whose gradient is wanted.
        precision: the recipe's.
        form: of the head, see `training_head`.
        window_size: clips of a full window.
        class_weights: of shape (classes,), on the head's device.
    """

    def __init__(
        self,
        head: Head,
        *,
        precision: str,
        form: str,
        window_size: int,
        class_weights: Tensor,
    ):
        self._head = head
        self._forward = training_head(head, precision=precision, form=form)
        self._class_weights = class_weights
        self._at_once = min(window_size, AT_ONCE)
        self._captured: Captured | None = None

    def compute(self, window: Sequence[LabelledFeatures]) -> Predictions:
        """Sets the head's gradient to that of a window's loss, and returns its predictions.

        Raises:
            UserError: not even one clip fits the memory.
        """
        while True:
            try:
                return self._compute(window)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._at_once == 1:
                    raise UserError(
                        f"device={self._class_weights.device}: its memory is too small to train with one clip at once: "
                        f"expected more, or precision=bf16"
                    ) from None
            self._at_once //= 2
            self._captured = None
            self._head.zero_grad()
            torch.cuda.empty_cache()
            remark(f"Memory ran out: {self._at_once} clips go through the head at once from here on")

    def _compute(self, window: Sequence[LabelledFeatures]) -> Predictions:
        labels = torch.tensor([clip.label for clip in window]).to(self._class_weights.device, non_blocking=True)
        weights = self._class_weights[labels]
        weights = weights / weights.sum()
        logits: list[Tensor] = []
        for start in range(0, len(window), self._at_once):
            part = slice(start, start + self._at_once)
            features = torch.stack([clip.features for clip in window[part]])
            before = self._gradients() if logits else []
            logits.append(self._pass(features, labels[part], weights[part]))
            for parameter, gradient in before:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return Predictions(torch.cat(logits), labels)

    def _gradients(self) -> list[tuple[torch.nn.Parameter, Tensor]]:
        parameters = self._head.parameters()
        return [(parameter, parameter.grad.clone()) for parameter in parameters if parameter.grad is not None]

    def _pass(self, features: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Sets the head's gradient to that of some clips' weighted losses, and returns their logits."""
        if features.device.type == "cpu":
            return self._backward(features, labels, weights)
        count, missing = len(features), self._at_once - len(features)
        # A graph has fixed shapes: fewer clips are filled up with others that weigh nothing.
        features = torch.cat([features, features[-1:].expand(missing, -1, -1)]) if missing else features
        labels, weights = F.pad(labels, (0, missing)), F.pad(weights, (0, missing))
        if self._captured is None:
            self._captured = Captured(self._backward, features, labels, weights)
        return self._captured(features, labels, weights)[:count].clone()

    def _backward(self, features: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        self._head.zero_grad()  # so that a graph writes its own gradients, and each replay writes them anew
        logits = self._forward(features)
        (F.cross_entropy(logits, labels, reduction="none") * weights).sum().backward()
        return logits.detach()
