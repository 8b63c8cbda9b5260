"""The three sets as features and labels, in the order in which they are used."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

from vjepa_mlflow.data import VideoDataset
from vjepa_mlflow.features.encoder import Clip
from vjepa_mlflow.features.memory import FeatureMemory
from vjepa_mlflow.model import CENTRED
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.video import View, draw_view


class LabelledFeatures(NamedTuple):
    """One clip's features, of shape (tokens, hidden size), and its class."""

    features: Tensor
    label: int


class TrainingSet:
    """The training videos: in each epoch another order, and another view unless the recipe reuses views."""

    def __init__(self, memory: FeatureMemory, dataset: VideoDataset, recipe: Recipe):
        self._memory = memory
        self._samples = dataset.splits["train"]
        self._recipe = recipe
        self.labels = dataset.label_ids("train")

    def __len__(self) -> int:
        return len(self._samples)

    def epoch(self, epoch: int) -> Iterator[LabelledFeatures]:
        """Yields the set once, in the order and with the views of an epoch, counted from 1."""
        order = np.random.default_rng([self._recipe.seed, epoch]).permutation(len(self))
        clips = [Clip(self._samples[index], self._view(index, epoch)) for index in order]
        features = self._memory.read(clips, keep=self._recipe.views > 0)
        return (LabelledFeatures(f, self.labels[index]) for f, index in zip(features, order, strict=True))

    def _view(self, index: int, epoch: int) -> View:
        number = (epoch - 1) % self._recipe.views if self._recipe.views else epoch - 1
        return draw_view(
            seed=self._recipe.seed,
            sample=self._samples[index].digest,
            number=number,
            horizontal_flip=self._recipe.horizontal_flip,
        )


class EvaluationSet:
    """The validation or test videos: always the centred clip, always in the same order."""

    def __init__(self, memory: FeatureMemory, dataset: VideoDataset, split: str):
        self._memory = memory
        self._read_again = split == "val"  # after every epoch; the test set is read once
        self._clips = [Clip(sample, CENTRED) for sample in dataset.splits[split]]
        self.labels = dataset.label_ids(split)

    def __len__(self) -> int:
        return len(self._clips)

    def __iter__(self) -> Iterator[LabelledFeatures]:
        features = self._memory.read(self._clips, keep=self._read_again)
        return (LabelledFeatures(f, label) for f, label in zip(features, self.labels, strict=True))
