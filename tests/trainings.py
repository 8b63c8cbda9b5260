"""Trainings that take a moment: a tiny model, real features of random clips, and what `fit` reads them from."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from vjepa_mlflow import Recipe
from vjepa_mlflow.features import LabelledFeatures
from vjepa_mlflow.model import TRANSFORMERS, Head, freeze_backbone
from vjepa_mlflow.training import HeadPasses, Snapshot, TrainingState, fit

CLASSES = 3
CLIPS = 10


def tiny_model(seed: int = 0, **changes: float) -> VJEPA2ForVideoClassification:
    torch.manual_seed(seed)
    config = VJEPA2Config(
        crop_size=32,
        patch_size=16,
        frames_per_clip=4,
        hidden_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        num_pooler_layers=1,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        num_labels=CLASSES,
        **changes,  # type: ignore[arg-type]
    )
    return freeze_backbone(VJEPA2ForVideoClassification(config))


class Clips:
    """Real features of random clips: an order of its own for each epoch of training, a fixed one for evaluation."""

    def __init__(self, model: VJEPA2ForVideoClassification, count: int = CLIPS, seed: int = 1):
        generator = torch.Generator().manual_seed(seed)
        self.pixels = torch.randn(count, 4, 3, 32, 32, generator=generator)
        self.labels = [index % CLASSES for index in range(count)]
        with torch.no_grad():
            self.features = model.vjepa2(pixel_values_videos=self.pixels, skip_predictor=True).last_hidden_state

    def __len__(self) -> int:
        return len(self.labels)

    def order(self, epoch: int) -> list[int]:
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(epoch)).tolist()

    def labelled(self, order: Sequence[int]) -> Iterator[LabelledFeatures]:
        return (LabelledFeatures(self.features[index], self.labels[index]) for index in order)


class Training:
    def __init__(self, kept: Clips):
        self._kept, self.labels = kept, kept.labels

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, epoch: int, *, first: int = 0) -> Iterator[LabelledFeatures]:
        return self._kept.labelled(self._kept.order(epoch)[first:])


class Evaluation:
    def __init__(self, kept: Clips):
        self._kept, self.labels = kept, kept.labels

    def __len__(self) -> int:
        return len(self._kept)

    def read(self) -> Iterator[LabelledFeatures]:
        return self._kept.labelled(range(len(self)))


def passes_of(model: VJEPA2ForVideoClassification) -> HeadPasses:
    return HeadPasses(Head.of(model), precision="fp32", form=TRANSFORMERS)


class Narrow(torch.nn.Module):
    """A head in a memory that so many clips fit."""

    def __init__(self, head: Head, most: int):
        super().__init__()
        self.head, self.most = head, most

    def forward(self, features: Tensor) -> Tensor:
        if len(features) > self.most:
            raise MemoryError
        return self.head(features)


def train_with_dropout(
    at_step: Callable[[TrainingState], None], *, scheduler: str = "constant", resume: Snapshot | None = None
) -> TrainingState:
    """Four epochs of three windows each, which are the same every time."""
    model = tiny_model(attention_dropout=0.1)
    clips = Clips(model)
    sets: Any = {"train": Training(clips), "val": Evaluation(clips)}
    recipe = Recipe(epochs=4, learning_rate=1e-3, scheduler=scheduler)
    torch.manual_seed(5)
    calls: Any = {"on_epoch": at_step, "on_step": at_step}
    return fit(passes_of(model), **sets, recipe=recipe, resume=resume, **calls)
