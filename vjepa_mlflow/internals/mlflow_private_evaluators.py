"""What this package uses of MLflow's own evaluators that MLflow does not document.

`mlflow.models.ModelEvaluator`, which is public, computes nothing: users' metrics and artifacts, and the logging of
them, are in the base of MLflow's evaluators alone. Looked at in MLflow 3.4 and 3.17, of mlflow>=3.4,<4.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import EvaluationArtifact
from mlflow.models.evaluation.default_evaluator import BuiltInEvaluator
from mlflow.pyfunc import PyFuncModel, _ServedPyFuncModel

__all__ = ["BuiltInEvaluator", "guard", "is_apart", "load_artifact"]


def guard(frame: pd.DataFrame) -> Any:
    """What the property `X` of an evaluator has to be, since its base asks that for copies; no public class does."""
    return BuiltInEvaluator._MutationGuardedData(frame)


def load_artifact(artifact: EvaluationArtifact, path: Path) -> None:
    """Has a result's artifact hold what a file holds; publicly it would fetch that from the tracking server."""
    artifact._load(str(path))


def is_apart(model: PyFuncModel) -> bool:
    """Whether a model works in another environment, which evaluators are not told."""
    return isinstance(model, _ServedPyFuncModel)
