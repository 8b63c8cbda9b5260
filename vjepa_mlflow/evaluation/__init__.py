"""Predictions to figures."""

from vjepa_mlflow.evaluation.figures import Prediction, plot_curves, prediction_sheet
from vjepa_mlflow.evaluation.thumbnails import read_thumbnails, thumbnails

__all__ = ["Prediction", "plot_curves", "prediction_sheet", "read_thumbnails", "thumbnails"]
