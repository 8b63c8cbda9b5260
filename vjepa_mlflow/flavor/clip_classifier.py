"""Decoded clips to probabilities of the classes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import VJEPA2ForVideoClassification

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.model import (
    CENTRED,
    Backbone,
    Captured,
    Head,
    Preprocessing,
    autocast,
    cpu_threads,
    matmul_precision,
    preprocess,
)

logger = get_logger(__name__)


class ClipClassifier:
    """Preprocessing, backbone and head of a classifier, for prediction.

    On a GPU clips go through it in batches of one size, and what is left of them one by one, since each size is
    compiled and recorded by itself; on the CPU, where a batch is no faster, one by one.

    Args:
        model: on its device.
        preprocessing: its own.
        precision: `fp32`, `tf32` or `bf16`.
        batch_size: clips in one forward pass at most.
        threads: to compute with on the CPU.

    Attributes:
        batch_size: as many as it gains from.
    """

    def __init__(
        self,
        model: VJEPA2ForVideoClassification,
        preprocessing: Preprocessing,
        *,
        precision: str,
        batch_size: int,
        threads: int,
    ):
        self._device = model.device
        self._preprocessing = preprocessing
        self._precision = precision
        self._threads = threads
        self._backbone = Backbone.of(model, precision=precision)
        self._head = Head.of(model).eval()
        self._captured: dict[torch.Size, Captured] = {}
        self.batch_size = batch_size if self._device.type == "cuda" else 1
        self._warm_up(model.config.frames_per_clip)

    def __call__(self, clips: Sequence[Tensor], /) -> Tensor:
        """uint8 RGB clips, each of shape (frames, height, width, 3), to probabilities of shape (clips, classes)."""
        with torch.no_grad(), cpu_threads(self._threads), matmul_precision(self._precision):
            pixels = preprocess(self._preprocessing, clips, views=[CENTRED] * len(clips), device=self._device)
            batches, rest = divmod(len(clips), self.batch_size)
            sizes = [self.batch_size] * batches + [1] * rest
            logits = torch.cat([self._forward(batch) for batch in pixels.split(sizes)])
            return logits.double().softmax(dim=-1).cpu()

    def _forward(self, pixels: Tensor) -> Tensor:
        features = self._backbone(pixels)
        if self._device.type == "cpu":
            return self._classify(features)
        if features.shape not in self._captured:
            self._captured[features.shape] = Captured(self._classify, features)
        return self._captured[features.shape](features).clone()

    def _classify(self, features: Tensor) -> Tensor:
        with autocast(self._device, self._precision):
            return self._head(features.float()).float()

    def _warm_up(self, frames: int) -> None:
        """Does what the first batch of each size would have to wait for."""
        clip = torch.zeros(frames, 240, 320, 3, dtype=torch.uint8)
        while True:
            try:
                for size in {self.batch_size, 1}:
                    self([clip] * size)
                return
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise UserError(
                        f"device={self._device}: its memory is too small for one clip: expected more, or precision=bf16"
                    ) from None
            self.batch_size //= 2
            torch.cuda.empty_cache()
            logger.warning(f"GPU memory ran out: {self.batch_size} clips are classified at once")
