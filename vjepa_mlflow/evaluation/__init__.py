"""Predictions to figures, tables, a report and a model card."""

from typing import TYPE_CHECKING

from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
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
    from vjepa_mlflow.evaluation.intervals import FEWEST, TOO_FEW, Estimate, estimate_means, estimate_shares, proportion
    from vjepa_mlflow.evaluation.metrics import TITLES, ClassResult, measure, measure_classes
    from vjepa_mlflow.evaluation.model_evaluation import ModelEvaluation
    from vjepa_mlflow.evaluation.painter import Painter, Picture, painting
    from vjepa_mlflow.evaluation.predictions import VideoPredictions
    from vjepa_mlflow.evaluation.report import render_report
    from vjepa_mlflow.evaluation.results import Evaluation, evaluate
    from vjepa_mlflow.evaluation.thumbnails import choose_thumbnails, read_thumbnails, thumbnail_cache_dir

__getattr__ = load_when_used(__name__)
