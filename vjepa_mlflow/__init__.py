"""Adapts a V-JEPA 2 video classifier to a user's own classes, on MLflow.

The public names load torch and MLflow only once they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vjepa_mlflow.errors import UserError
    from vjepa_mlflow.flavor import load_model, log_model, save_model
    from vjepa_mlflow.jobs.evaluate import EvaluationResult, evaluate
    from vjepa_mlflow.jobs.extract import ExtractionResult, extract
    from vjepa_mlflow.jobs.predict import predict, predict_to_file
    from vjepa_mlflow.jobs.promote import Promotion, promote
    from vjepa_mlflow.jobs.sweep import SweepResult, run_sweep
    from vjepa_mlflow.jobs.train import TrainingResult, train
    from vjepa_mlflow.recipe import Recipe

__version__ = "0.1.0"

_HOMES = {
    "EvaluationResult": "vjepa_mlflow.jobs.evaluate",
    "ExtractionResult": "vjepa_mlflow.jobs.extract",
    "Promotion": "vjepa_mlflow.jobs.promote",
    "Recipe": "vjepa_mlflow.recipe",
    "SweepResult": "vjepa_mlflow.jobs.sweep",
    "TrainingResult": "vjepa_mlflow.jobs.train",
    "UserError": "vjepa_mlflow.errors",
    "evaluate": "vjepa_mlflow.jobs.evaluate",
    "extract": "vjepa_mlflow.jobs.extract",
    "load_model": "vjepa_mlflow.flavor",
    "log_model": "vjepa_mlflow.flavor",
    "predict": "vjepa_mlflow.jobs.predict",
    "predict_to_file": "vjepa_mlflow.jobs.predict",
    "promote": "vjepa_mlflow.jobs.promote",
    "run_sweep": "vjepa_mlflow.jobs.sweep",
    "save_model": "vjepa_mlflow.flavor",
    "train": "vjepa_mlflow.jobs.train",
}

__all__ = [
    "EvaluationResult",
    "ExtractionResult",
    "Promotion",
    "Recipe",
    "SweepResult",
    "TrainingResult",
    "UserError",
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
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
