"""How good a model is on a set of videos: measured, drawn and logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain

from vjepa_mlflow import evaluation, tracking
from vjepa_mlflow.stages.test import TestedModel

SHOWN_VIDEOS = 8
"""Mistakes, and hits, that the report shows."""


@dataclass(frozen=True)
class Assessment:
    """What there is to say of a model, while the figures that show it are drawn.

    Attributes:
        tested: what it says of the videos.
        result: all but the figures, which the run has as metrics and tables.
        pictures: the figures, by the names that the report has for them.
        report: makes the report, given the PNG files by those names.
    """

    tested: TestedModel
    result: evaluation.Evaluation
    pictures: Mapping[str, evaluation.Picture]
    report: Callable[..., str]

    @property
    def metrics(self) -> dict[str, float]:
        """By the names that they are logged under."""
        return self.result.metrics_of(self.tested.videos.split)

    def log_report(self, log: tracking.RunLog) -> None:
        """Logs the figures, which are waited for, and the report that shows them."""
        split, step = self.tested.videos.split, self.tested.step
        figures = {name: picture.png() for name, picture in self.pictures.items()}
        for name, png in figures.items():
            log.png(png, f"{name}.png" if name == "curves" else f"{split}_{name}.png", step=step)
        log.text(self.report(figures=figures), "report.html")


def assess(log: tracking.RunLog, painter: evaluation.Painter, tested: TestedModel) -> Assessment:
    """Works out what there is to say of a model's answers, logs it as metrics and tables, and has figures drawn.

    The report is logged by what is returned, once there is nothing else to do: drawing takes as long as saving a model.

    Raises:
        UserError: a video cannot be decoded any more.
    """
    videos, predictions = tested.videos, tested.predictions
    names = [sample.name for sample in videos.samples]
    result = painter.work_out(evaluation.evaluate, names, predictions, videos.properties)
    log.metrics(result.metrics_of(videos.split), step=tested.step, model_id=tested.model_id, dataset=videos.dataset)
    for name, table in result.tables().items():
        log.data_frame(table, f"{videos.split}_{name}.json")
    pictures = _begin_figures(painter, result, tested)
    chosen = [result.confident_mistakes[:SHOWN_VIDEOS], result.uncertain_hits[:SHOWN_VIDEOS], videos.spread()]
    shown = videos.show(sorted({*chain.from_iterable(chosen)}), predictions)
    mistakes, hits, sheet = ([shown[index] for index in indices] for indices in chosen)
    pictures["predictions"] = painter.begin(evaluation.prediction_sheet, sheet)
    pictures["mistakes_and_uncertain_hits"] = painter.begin(evaluation.prediction_sheet, [*mistakes, *hits])
    report = partial(
        evaluation.render_report,
        tested.title,
        result,
        facts=tested.facts,
        mistakes=mistakes,
        hits=hits,
        epochs=tested.trained.epochs if tested.trained else (),
    )
    return Assessment(tested, result, pictures, report)


def _begin_figures(
    painter: evaluation.Painter, result: evaluation.Evaluation, tested: TestedModel
) -> dict[str, evaluation.Picture]:
    accuracy = result.values["accuracy"]
    pictures = {
        "confusion_matrix": painter.begin(evaluation.plot_confusion, result.predictions),
        "calibration": painter.begin(evaluation.plot_calibration, result.predictions),
    }
    if result.slices:
        pictures["factors"] = painter.begin(evaluation.plot_slices, result.slices, accuracy=accuracy)
    if (trained := tested.trained) is not None:
        pictures["curves"] = painter.begin(
            evaluation.plot_curves, trained.epochs, best_epoch=trained.best.epoch, test_accuracy=accuracy
        )
    return pictures
