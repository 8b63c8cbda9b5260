"""How good a model is on a set of videos: measured, drawn and logged. Training ends with it; `evaluate` is it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from vjepa_mlflow import data, evaluation, features, flavor, model, tracking, training, video
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger

logger = get_logger(__name__)

if TYPE_CHECKING:
    from vjepa_mlflow.data import Sample
    from vjepa_mlflow.datasets import LabelledVideos

SHEET_ROWS = 12
SHOWN_VIDEOS = 8
"""Mistakes, and hits, that the report shows."""

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
        kept = [index for index, clip in enumerate(clips.given) if clip.sample.name not in source.left_out]
        probabilities = logits[kept].double().softmax(dim=-1).reshape(len(videos.samples), self.num_clips, -1)
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
        kept = evaluation.thumbnail_cache_dir(self.cache)
        found = evaluation.read_thumbnails(self._files(samples), self.sampling, kept=kept)
        for sample, frames in zip(samples, found, strict=True):
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


@dataclass(frozen=True)
class TrainingHistory:
    """The training that led to a model.

    Attributes:
        epochs: the metrics of epoch 1, 2, ...
        best_epoch: whose head it has.
    """

    epochs: Sequence[dict[str, float]]
    best_epoch: int


@dataclass(frozen=True)
class Assessment:
    """What there is to say of a model, while the figures that show it are drawn.

    Attributes:
        found: all but the figures, which the run has as metrics and tables.
        pictures: the figures, by the names that the report has for them.
        report: makes the report, given the PNG files by those names.
        split: what the set is called.
        step: of the metrics.
    """

    found: evaluation.Evaluation
    pictures: Mapping[str, evaluation.Picture]
    report: Callable[..., str]
    split: str
    step: int

    def log_report(self, log: tracking.RunLog) -> None:
        """Logs the figures, which are waited for, and the report that shows them."""
        figures = {name: picture.png() for name, picture in self.pictures.items()}
        for name, png in figures.items():
            log.png(png, f"{name}.png" if name == "curves" else f"{self.split}_{name}.png", step=self.step)
        log.text(self.report(figures=figures), "report.html")


def assess(
    log: tracking.RunLog,
    painter: evaluation.Painter,
    videos: LabelledSet,
    predictions: evaluation.VideoPredictions,
    *,
    title: str,
    facts: Mapping[str, str],
    step: int,
    history: TrainingHistory | None = None,
    model_id: str | None = None,
) -> Assessment:
    """Works out what there is to say of a model's answers, logs it as metrics and tables, and has figures drawn.

    The report is logged by what is returned, once there is nothing else to do: drawing takes as long as saving a model.

    Args:
        log: of the run.
        painter: draws the figures.
        videos: the set.
        predictions: what the model said of it.
        title: of the report.
        facts: what the report says was evaluated, as names and values.
        step: of the metrics.
        history: of the training, if the model comes from one in this run.
        model_id: of the logged model that the metrics are of, if there is one already.

    Raises:
        UserError: a video cannot be decoded any more.
    """
    found = evaluation.evaluate([sample.name for sample in videos.samples], predictions, videos.properties)
    log.metrics(found.metrics_of(videos.split), step=step, model_id=model_id, dataset=videos.dataset)
    for name, table in found.tables().items():
        log.data_frame(table, f"{videos.split}_{name}.json")
    pictures = _begin_figures(painter, found, history)
    chosen = [found.confident_mistakes[:SHOWN_VIDEOS], found.uncertain_hits[:SHOWN_VIDEOS], videos.spread()]
    shown = videos.show(sorted({*chain.from_iterable(chosen)}), predictions)
    mistakes, hits, sheet = ([shown[index] for index in indices] for indices in chosen)
    pictures["predictions"] = painter.begin(evaluation.prediction_sheet, sheet)
    pictures["mistakes_and_uncertain_hits"] = painter.begin(evaluation.prediction_sheet, [*mistakes, *hits])
    report = partial(
        evaluation.render_report,
        title,
        found,
        facts=facts,
        mistakes=mistakes,
        hits=hits,
        epochs=history.epochs if history else (),
    )
    return Assessment(found, pictures, report, videos.split, step)


def _begin_figures(
    painter: evaluation.Painter, found: evaluation.Evaluation, history: TrainingHistory | None
) -> dict[str, evaluation.Picture]:
    accuracy = found.values["accuracy"]
    pictures = {
        "confusion_matrix": painter.begin(evaluation.plot_confusion, found.predictions),
        "calibration": painter.begin(evaluation.plot_calibration, found.predictions),
    }
    if found.slices:
        pictures["factors"] = painter.begin(evaluation.plot_slices, found.slices, accuracy=accuracy)
    if history:
        pictures["curves"] = painter.begin(
            evaluation.plot_curves, history.epochs, best_epoch=history.best_epoch, test_accuracy=accuracy
        )
    return pictures
