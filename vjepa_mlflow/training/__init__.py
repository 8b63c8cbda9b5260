"""Features to the best head: the loop and its metrics."""

from typing import TYPE_CHECKING

from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
    from vjepa_mlflow.training.gradient import HeadPasses
    from vjepa_mlflow.training.loop import DivergedError, choose_head_form, fit, readings_to_come
    from vjepa_mlflow.training.metrics import classification_metrics
    from vjepa_mlflow.training.predictions import Predictions, predict
    from vjepa_mlflow.training.ranking import DIRECTIONS, rank
    from vjepa_mlflow.training.snapshot import HostMemory, Snapshot, read_snapshot
    from vjepa_mlflow.training.state import BestHead, TrainingState, load_best

__getattr__ = load_when_used(__name__)
