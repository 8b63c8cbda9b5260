"""Features to the best head: the loop and its metrics."""

from vjepa_mlflow.training.loop import BestHead, fit
from vjepa_mlflow.training.metrics import classification_metrics
from vjepa_mlflow.training.predictions import Predictions, predict

__all__ = ["BestHead", "Predictions", "classification_metrics", "fit", "predict"]
