"""The gradient of an optimizer step, from as many of its clips at once as fit."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.features import LabelledFeatures
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.model import Captured, Head, is_out_of_memory, training_head
from vjepa_mlflow.training.predictions import Predictions

logger = get_logger(__name__)

AT_ONCE = 16
"""Clips in one pass through the head, halved whenever memory runs out."""

ROOM = 2
"""Times as many clips are in all recorded passes at most: those of 1, 2, 4, 8 and 16 clips stay side by side."""


class _Recorded(NamedTuple):
    """A pass over so many clips, and where it leaves the gradient of each parameter."""

    run: Captured
    gradients: list[Tensor | None]


class HeadPasses:
    """A head's forward and backward passes over some clips at once.

    On a GPU the pass over each number of clips is recorded when it is first taken: one training after another of the
    same head has the recordings of those before, as far as all of them have room, see `ROOM`.

    Args:
        head: whose gradient is wanted.
        precision: the recipe's.
        form: of the head, see `training_head`.

    Attributes:
        head: as above.
        most: clips that may go through together.
    """

    def __init__(self, head: Head, *, precision: str, form: str):
        self.head = head
        self.most = AT_ONCE
        self._forward = training_head(head, precision=precision, form=form)
        self._recorded: dict[int, _Recorded] = {}

    def take(self, features: Tensor, labels: Tensor, weights: Tensor, *, size: int) -> Tensor:
        """Sets the head's gradient to that of some clips' weighted losses, and returns their logits.

        Args:
            features: of shape (clips, tokens, hidden size).
            labels: of shape (clips,).
            weights: of shape (clips,).
            size: clips of the pass, at least as many as there are: on a GPU others that weigh nothing fill it up, since
                a recording has fixed shapes.
        """
        if features.device.type == "cpu":
            return self._backward(features, labels, weights)
        count, missing = len(features), size - len(features)
        features = torch.cat([features, features[-1:].expand(missing, -1, -1)]) if missing else features
        labels, weights = F.pad(labels, (0, missing)), F.pad(weights, (0, missing))
        if size not in self._recorded:
            self._recorded[size] = self._record(features, labels, weights)
        run, gradients = self._recorded[size]
        for parameter, gradient in zip(self.head.parameters(), gradients, strict=True):
            parameter.grad = gradient
        return run(features, labels, weights)[:count].clone()

    def forget(self) -> bool:
        """Gives back the memory of what is recorded, for others. Returns whether anything was."""
        had_any = bool(self._recorded)
        self.head.zero_grad()  # first: gradients lie in the memory of what is recorded
        self._recorded.clear()
        torch.cuda.empty_cache()
        return had_any

    def make_room(self, size: int) -> bool:
        """Gives memory back where it ran out in a pass over so many clips: other recordings', or half of the clips.

        Returns:
            Whether there was any to give.
        """
        has_others = bool(self._recorded.keys() - {size})
        self.forget()
        if has_others or size == 1:
            return has_others
        self.most = size // 2
        logger.warning(f"Memory ran out: {self.most} clips go through the head at once from here on")
        return True

    def _record(self, *inputs: Tensor) -> _Recorded:
        self.head.zero_grad()
        while self._recorded and sum(self._recorded) + len(inputs[0]) > ROOM * self.most:
            del self._recorded[max(self._recorded)]
        run = Captured(self._backward, *inputs)
        return _Recorded(run, [parameter.grad for parameter in self.head.parameters()])

    def _backward(self, features: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        self.head.zero_grad()  # so that a graph writes its own gradients, and each replay writes them anew
        logits = self._forward(features)
        (F.cross_entropy(logits, labels, reduction="none") * weights).sum().backward()
        return logits.detach()


class AccumulatedGradient:
    """The gradient of the clips of one optimizer step.

    The loss of a step is the mean over the clips of its accumulation window, weighted by their classes. How many of
    them go through the head together changes nothing but time and rounding.

    Args:
        passes: of the head whose gradient is wanted.
        clips_per_step: clips of a full accumulation window.
        class_weights: of shape (classes,), on the head's device.
    """

    def __init__(self, passes: HeadPasses, *, clips_per_step: int, class_weights: Tensor):
        self._passes = passes
        self._clips_per_step = clips_per_step
        self._class_weights = class_weights

    def compute(self, clips: Sequence[LabelledFeatures]) -> Predictions:
        """Sets the head's gradient to that of a step's loss, and returns its predictions.

        Args:
            clips: of the step's accumulation window.

        Raises:
            UserError: not even one clip fits the memory.
        """
        while True:
            size = min(self._clips_per_step, self._passes.most)
            try:
                return self._compute(clips, size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if not self._passes.make_room(size):
                raise UserError(
                    f"device={self._class_weights.device}: its memory is too small to train with one clip at once: "
                    "expected more, or precision=bf16"
                )

    def _compute(self, clips: Sequence[LabelledFeatures], size: int) -> Predictions:
        labels = torch.tensor([clip.label for clip in clips]).to(self._class_weights.device, non_blocking=True)
        weights = self._class_weights[labels]
        weights = weights / weights.sum()
        logits: list[Tensor] = []
        for start in range(0, len(clips), size):
            part = slice(start, start + size)
            features = torch.stack([clip.features for clip in clips[part]])
            before = self._gradients() if logits else []
            logits.append(self._passes.take(features, labels[part], weights[part], size=size))
            for parameter, gradient in before:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return Predictions(torch.cat(logits), labels)

    def _gradients(self) -> list[tuple[torch.nn.Parameter, Tensor]]:
        parameters = self._passes.head.parameters()
        return [(parameter, parameter.grad.clone()) for parameter in parameters if parameter.grad is not None]
