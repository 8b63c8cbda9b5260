"""Predictions to figures."""

from vjepa_mlflow.evaluation.figures import Prediction, plot_curves, prediction_sheet, thumbnails

__all__ = ["Prediction", "plot_curves", "prediction_sheet", "thumbnails"]
