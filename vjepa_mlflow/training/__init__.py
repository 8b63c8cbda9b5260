"""Features to the best head: the loop and its metrics."""

from vjepa_mlflow.training.loop import BestHead, Predictions, fit, predict
from vjepa_mlflow.training.metrics import classification_metrics

__all__ = ["BestHead", "Predictions", "classification_metrics", "fit", "predict"]
