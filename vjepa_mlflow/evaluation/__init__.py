"""Predictions to figures, tables, a report and a model card."""

from vjepa_mlflow.evaluation.card import TrainingRecord, render_card, summarize
from vjepa_mlflow.evaluation.factors import FACTORS, Slice, slice_by_factors
from vjepa_mlflow.evaluation.figures import (
    Prediction,
    plot_calibration,
    plot_confusion,
    plot_curves,
    plot_slices,
    prediction_sheet,
)
from vjepa_mlflow.evaluation.intervals import Estimate, bootstrap, proportion
from vjepa_mlflow.evaluation.metrics import LOWER_IS_BETTER, TITLES, ClassResult, measure, measure_classes
from vjepa_mlflow.evaluation.outcomes import Outcomes
from vjepa_mlflow.evaluation.report import render_report
from vjepa_mlflow.evaluation.results import Evaluation, evaluate
from vjepa_mlflow.evaluation.thumbnails import read_thumbnails, thumbnails

__all__ = [
    "FACTORS",
    "LOWER_IS_BETTER",
    "TITLES",
    "ClassResult",
    "Estimate",
    "Evaluation",
    "Outcomes",
    "Prediction",
    "Slice",
    "TrainingRecord",
    "bootstrap",
    "evaluate",
    "measure",
    "measure_classes",
    "plot_calibration",
    "plot_confusion",
    "plot_curves",
    "plot_slices",
    "prediction_sheet",
    "proportion",
    "read_thumbnails",
    "render_card",
    "render_report",
    "slice_by_factors",
    "summarize",
    "thumbnails",
]
