"""The gradient of a window, from as many of its clips at once as fit."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import VJEPA2Config

from vjepa_mlflow.errors import UserError, remark
from vjepa_mlflow.features import LabelledFeatures
from vjepa_mlflow.model import Head, training_head
from vjepa_mlflow.training.predictions import Predictions

AT_ONCE = 16
"""Clips in one pass through the head, halved whenever a GPU's memory runs out. More gain nothing on an H200."""


class WindowGradient:
    """Forward and backward passes over the clips of one optimizer step.

    The loss of a window is the mean over its clips, weighted by their classes. How many of them go through the head
    together changes nothing but time and rounding.

    Args:
        head: whose gradient is wanted.
        config: its model's.
        precision: the recipe's.
        window_size: clips of a full window.
        class_weights: of shape (classes,), on the head's device.
        at_once: clips in one pass, at most.
    """

    def __init__(
        self,
        head: Head,
        config: VJEPA2Config,
        *,
        precision: str,
        window_size: int,
        class_weights: Tensor,
        at_once: int = AT_ONCE,
    ):
        self._head = head
        self._forward = training_head(head, config, precision=precision)
        self._class_weights = class_weights
        self._at_once = min(window_size, at_once)
        self._passes: _Pass | _CapturedPass | None = None

    def add(self, window: Sequence[LabelledFeatures]) -> Predictions:
        """Adds the gradient of a window's loss to the head's, which must be zero, and returns its predictions.

        Raises:
            UserError: not even one clip fits the GPU's memory.
        """
        while True:
            try:
                return self._add(window)
            except torch.OutOfMemoryError:
                if self._at_once == 1:
                    raise UserError(
                        "the GPU's memory is too small to train with one clip at once: expected more, or precision=bf16"
                    ) from None
            self._at_once //= 2
            self._passes = None
            self._head.zero_grad()
            torch.cuda.empty_cache()
            remark(f"GPU memory ran out: {self._at_once} clips go through the head at once from here on")

    def _add(self, window: Sequence[LabelledFeatures]) -> Predictions:
        labels = torch.tensor([clip.label for clip in window]).to(self._class_weights.device, non_blocking=True)
        weights = self._class_weights[labels]
        weights = weights / weights.sum()
        logits = []
        for start in range(0, len(window), self._at_once):
            part = slice(start, start + self._at_once)
            features = torch.stack([clip.features for clip in window[part]])
            if self._passes is None:
                self._passes = self._make_pass(features)
            logits.append(self._passes(features, labels[part], weights[part]))
        return Predictions(torch.cat(logits), labels)

    def _make_pass(self, features: Tensor) -> "_Pass | _CapturedPass":
        if features.device.type == "cpu":
            return _Pass(self._forward)
        return _CapturedPass(self._forward, features, size=self._at_once)


class _Pass:
    """One forward and backward pass."""

    def __init__(self, forward: Callable[[Tensor], Tensor]):
        self._forward = forward

    def __call__(self, features: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Adds the gradient of the weighted sum of the clips' losses to the head's and returns the logits."""
        logits = self._forward(features)
        (F.cross_entropy(logits, labels, reduction="none") * weights).sum().backward()
        return logits.detach()


class _CapturedPass:
    """The same, recorded once and replayed as a CUDA graph: launching its kernels would take longer than running them.

    A graph has fixed shapes. Fewer clips are filled up with others that weigh nothing.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], features: Tensor, *, size: int):
        self._features = features.new_zeros(size, *features.shape[1:])
        self._labels = torch.zeros(size, dtype=torch.long, device=features.device)
        self._weights = torch.zeros(size, device=features.device)  # so that the passes below add nothing
        once = _Pass(forward)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):  # compiles what is to be compiled, and makes the gradients that the graph adds to
                once(self._features, self._labels, self._weights)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads go on loading features meanwhile: only this one's calls are part of the graph.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._logits = once(self._features, self._labels, self._weights)

    def __call__(self, features: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        count = len(features)
        self._features[:count].copy_(features)
        self._labels[:count].copy_(labels)
        self._weights.zero_()
        self._weights[:count].copy_(weights)
        self._graph.replay()
        return self._logits[:count].clone()
