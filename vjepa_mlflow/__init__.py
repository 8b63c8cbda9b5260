"""Adapts a V-JEPA 2 video classifier to a user's own classes, on MLflow.

The public names load torch and MLflow only once they are used.
"""

from typing import TYPE_CHECKING

from vjepa_mlflow.about import VERSION
from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
    from vjepa_mlflow.commands.check import Survey, check
    from vjepa_mlflow.commands.evaluate import EvaluationResult, evaluate
    from vjepa_mlflow.commands.extract import ExtractionResult, extract
    from vjepa_mlflow.commands.predict import predict, predict_to_file
    from vjepa_mlflow.commands.promote import Promotion, promote
    from vjepa_mlflow.commands.sweep import SweepResult, run_sweep
    from vjepa_mlflow.commands.train import TrainingResult, train
    from vjepa_mlflow.commands.upload import UploadResult, upload
    from vjepa_mlflow.errors import UserError
    from vjepa_mlflow.flavor import load_model, log_model, save_model
    from vjepa_mlflow.recipe import Recipe
    from vjepa_mlflow.runtime.workers import worker_processes

__version__ = VERSION

__all__ = [
    "EvaluationResult",
    "ExtractionResult",
    "Promotion",
    "Recipe",
    "Survey",
    "SweepResult",
    "TrainingResult",
    "UploadResult",
    "UserError",
    "check",
    "evaluate",
    "extract",
    "load_model",
    "log_model",
    "predict",
    "predict_to_file",
    "promote",
    "run_sweep",
    "save_model",
    "train",
    "upload",
    "worker_processes",
]

__getattr__ = load_when_used(__name__)
