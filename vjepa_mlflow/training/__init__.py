"""Features to the best head: the loop and its metrics."""

from vjepa_mlflow.training.loop import DivergedError, fit
from vjepa_mlflow.training.metrics import DIRECTIONS, classification_metrics, rank
from vjepa_mlflow.training.predictions import Predictions, predict
from vjepa_mlflow.training.state import BestHead, Snapshot, TrainingState, load_best, read_snapshot

__all__ = [
    "DIRECTIONS",
    "BestHead",
    "DivergedError",
    "Predictions",
    "Snapshot",
    "TrainingState",
    "classification_metrics",
    "fit",
    "load_best",
    "predict",
    "rank",
    "read_snapshot",
]
