"""Labelled videos that a model is tested on: what it says of them, what can be measured of them, how they look."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vjepa_mlflow import data, evaluation, features, flavor, model, training, video
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger

if TYPE_CHECKING:
    from vjepa_mlflow.data import Sample
    from vjepa_mlflow.datasets import LabelledVideos

logger = get_logger(__name__)

SHEET_ROWS = 12
SHOWN_LABELS = 3
"""Most probable labels that are told of a video in the report."""

GREY_FRAMES = (6, 96, 128, 3)
"""Shape of the thumbnails that stand for a video which cannot be read any more."""


@dataclass(frozen=True)
class LabelledSet:
    """The videos that a model is assessed on, and how clips of them are taken.

    Attributes:
        data: the folder or table that they come from, or `demo`.
        split: what the set is called: train, val, test or all.
        samples: the videos.
        labels: the classes, in the order of the model's outputs.
        num_clips: clips of a video that are averaged.
        sampling: of a clip.
        cache: the recipe's, which says whether what is measured and drawn of videos is kept.
    """

    data: str
    split: str
    samples: Sequence[Sample]
    labels: list[str]
    num_clips: int
    sampling: video.Sampling
    cache: str

    @cached_property
    def dataset(self) -> LabelledVideos:
        """The set as MLflow knows it."""
        from vjepa_mlflow.datasets import dataset_of_split

        return dataset_of_split(self.samples, self.data, self.split)

    def predict(
        self, head: model.Head, source: features.FeatureSource, *, precision: str
    ) -> tuple[LabelledSet, evaluation.VideoPredictions]:
        """What a head says of each video: its probabilities, averaged over the video's clips.

        Returns:
            The set without the videos that the source leaves out, and what the head says of the others.

        Raises:
            UserError: an answer is no number.
        """
        clips = features.EvaluationSet(source, self.samples, self.labels, num_clips=self.num_clips)
        logits, _ = training.predict(head, clips, precision=precision, name=self.split.capitalize())
        videos = self._without(source.left_out)
        readable = [index for index, clip in enumerate(clips.given) if clip.sample.name not in source.left_out]
        probabilities = logits[readable].double().softmax(dim=-1).reshape(len(videos.samples), self.num_clips, -1)
        flavor.check_answers(probabilities.numpy())
        _, groups = np.unique(data.undivided_groups(videos.samples), return_inverse=True)
        predictions = evaluation.VideoPredictions(
            labels=self.labels,
            targets=np.array(data.label_ids(videos.samples, self.labels)),
            probabilities=probabilities.mean(dim=1).numpy(),
            groups=groups,
        )
        return videos, predictions

    def _without(self, names: Container[str]) -> LabelledSet:
        samples = [sample for sample in self.samples if sample.name not in names]
        return self if len(samples) == len(self.samples) else replace(self, samples=samples)

    @cached_property
    def properties(self) -> list[video.VideoProperties]:
        """What can be measured of each video; measured when first asked for.

        Raises:
            UserError: one of them cannot be decoded any more.
        """
        files = self._files(self.samples)
        measured = video.measure_videos(files, self.sampling, cache_dir=video.property_cache_dir(self.cache))
        return [_check(properties, sample) for properties, sample in zip(measured, self.samples, strict=True)]

    def spread(self) -> list[int]:
        """Some videos spread evenly over the set, and so over the classes."""
        return np.linspace(0, len(self.samples) - 1, min(SHEET_ROWS, len(self.samples))).round().astype(int).tolist()

    def show(
        self, indices: Sequence[int], predictions: evaluation.VideoPredictions
    ) -> dict[int, evaluation.Prediction]:
        """Of some videos frames, the label, and the labels that the model finds most probable, by their indices."""
        thumbnails = self._thumbnails([self.samples[index] for index in indices])
        return {
            index: self._show(index, predictions, frames) for index, frames in zip(indices, thumbnails, strict=True)
        }

    def _show(self, index: int, predictions: evaluation.VideoPredictions, frames: np.ndarray) -> evaluation.Prediction:
        probabilities = predictions.probabilities[index]
        best = np.argsort(-probabilities, kind="stable")[:SHOWN_LABELS]
        return evaluation.Prediction(
            name=self.samples[index].name,
            frames=frames,
            true=self.samples[index].label,
            scores=[(self.labels[label], float(probabilities[label])) for label in best],
        )

    def _thumbnails(self, samples: Sequence[Sample]) -> Iterator[np.ndarray]:
        """Frames of videos, or grey where one cannot be read any more: no picture is worth a trained head."""
        cache_dir = evaluation.thumbnail_cache_dir(self.cache)
        thumbnails = evaluation.read_thumbnails(self._files(samples), self.sampling, kept=cache_dir)
        for sample, frames in zip(samples, thumbnails, strict=True):
            if isinstance(frames, video.VideoError):
                logger.warning(f"{sample.path}: {frames}: the report is without its frames")
                yield np.full(GREY_FRAMES, 200, dtype=np.uint8)
            else:
                yield frames

    @staticmethod
    def _files(samples: Sequence[Sample]) -> list[video.VideoFile]:
        return [video.VideoFile(sample.path, sample.digest) for sample in samples]


def _check(properties: video.VideoProperties | video.VideoError, sample: Sample) -> video.VideoProperties:
    if isinstance(properties, video.VideoError):
        raise UserError(f"{sample.path}: {properties}: expected it to be as the check found it") from properties
    return properties
