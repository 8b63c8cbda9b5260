"""The three sets as features and labels, in the order in which they are used."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from vjepa_mlflow.data import Sample, VideoDataset, label_ids
from vjepa_mlflow.features.assembly import Clip
from vjepa_mlflow.features.source import FeatureSource
from vjepa_mlflow.files.digest import sha256_of_text
from vjepa_mlflow.model import CENTRED
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.video import clip_positions, draw_view


class LabelledFeatures(NamedTuple):
    """One clip's features, of shape (tokens, hidden size), and its class."""

    features: Tensor
    label: int


def training_order(samples: Sequence[Sample], recipe: Recipe, epoch: int, *, order: str) -> list[int]:
    """The order in which an epoch, counted from 1, goes through the training videos, as indices.

    Args:
        samples: the videos.
        recipe: its `seed` is used.
        epoch: which.
        order: one of `ORDERS`: the name of what draws it.
    """
    return ORDERS[order](samples, recipe.seed, epoch)


def _order_by_digests(samples: Sequence[Sample], seed: int, epoch: int) -> list[int]:
    """Whatever order the samples are in: each is drawn a place by its content and its name."""
    places = [sha256_of_text(f"{seed} {epoch} {sample.digest} {sample.name}") for sample in samples]
    return sorted(range(len(samples)), key=places.__getitem__)


def _order_by_numpy(samples: Sequence[Sample], seed: int, epoch: int) -> list[int]:
    return np.random.default_rng([seed, epoch]).permutation(len(samples)).tolist()


ORDERS = {"sha256": _order_by_digests, "numpy": _order_by_numpy}
"""Ways to draw the order of an epoch; by NumPy's generator for runs that began so."""


def training_clips(samples: Sequence[Sample], recipe: Recipe, epoch: int) -> list[Clip]:
    """The views of the training videos in an epoch, counted from 1: fresh ones unless the recipe reuses views."""
    number = (epoch - 1) % recipe.views if recipe.views else epoch - 1
    return [
        Clip(
            sample,
            draw_view(seed=recipe.seed, sample=sample.digest, number=number, horizontal_flip=recipe.horizontal_flip),
        )
        for sample in samples
    ]


def evaluation_clips(samples: Sequence[Sample], *, num_clips: int = 1) -> list[Clip]:
    """Clips spread evenly over each video, one video's after the other's; a single one is the centred clip."""
    return [
        Clip(sample, replace(CENTRED, position=position))
        for sample in samples
        for position in clip_positions(num_clips)
    ]


def all_clips(dataset: VideoDataset, recipe: Recipe) -> Iterator[Clip]:
    """Every clip that a run reads, once.

    In the order of need, so that a budget that does not reach all serves first what every epoch reads.
    """
    yield from evaluation_clips(dataset.splits["val"])
    yield from evaluation_clips(dataset.splits["test"])
    for epoch in range(1, recipe.distinct_views + 1):
        yield from training_clips(dataset.splits["train"], recipe, epoch)


class TrainingSet:
    """The training videos: in each epoch another order, and other views unless the recipe reuses views.

    Args:
        source: of the features.
        dataset: whose training videos.
        recipe: `seed`, `views` and `horizontal_flip` are used.
    """

    def __init__(self, source: FeatureSource, dataset: VideoDataset, recipe: Recipe):
        self._source = source
        self._samples = dataset.splits["train"]
        self._order = functools.lru_cache(maxsize=2)(  # an epoch is asked for its clips and its labels
            lambda epoch: training_order(self._samples, recipe, epoch, order=dataset.order)
        )
        self._recipe = recipe
        self.labels = dataset.label_ids("train")

    def __len__(self) -> int:
        return len(self._samples)

    def clips(self, epoch: int) -> list[Clip]:
        """The set in the order and with the views of an epoch, counted from 1."""
        samples = [self._samples[index] for index in self._order(epoch)]
        return training_clips(samples, self._recipe, epoch)

    def read(self, epoch: int, *, first: int = 0) -> Iterator[LabelledFeatures]:
        """Yields the features of an epoch, counted from 1, from its clip of that index on, but for videos left out."""
        features = self._source.read(self.clips(epoch)[first:])
        labels = [self.labels[index] for index in self._order(epoch)[first:]]
        return (
            LabelledFeatures(of_clip, label)
            for of_clip, label in zip(features, labels, strict=True)
            if of_clip is not None
        )


class EvaluationSet:
    """Videos that a model is validated or tested on: always the same clips, in the same order.

    Args:
        source: of the features.
        samples: the videos.
        labels: the classes, in the order of the model's outputs.
        num_clips: clips of each video, see `evaluation_clips`.

    Attributes:
        clips: of the videos.
        labels: the clips' classes.
        given: the clips that the last reading gave: not those of videos that were left out.
    """

    def __init__(self, source: FeatureSource, samples: Sequence[Sample], labels: Sequence[str], *, num_clips: int = 1):
        self._source = source
        self.clips = evaluation_clips(samples, num_clips=num_clips)
        self.labels = label_ids([clip.sample for clip in self.clips], labels)
        self.given: list[Clip] = []

    @classmethod
    def of_split(cls, source: FeatureSource, dataset: VideoDataset, split: str) -> "EvaluationSet":
        """The centred clips of a split."""
        return cls(source, dataset.splits[split], dataset.labels)

    def __len__(self) -> int:
        return len(self.clips)

    def read(self) -> Iterator[LabelledFeatures]:
        """Yields the features of all videos but those left out."""
        self.given = []
        features = self._source.read(self.clips)
        for clip, of_clip, label in zip(self.clips, features, self.labels, strict=True):
            if of_clip is not None:
                self.given.append(clip)
                yield LabelledFeatures(of_clip, label)
