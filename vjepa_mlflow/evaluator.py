"""MLflow's plugin for evaluations: `mlflow.models.evaluate(uri, videos, ..., evaluators="vjepa_mlflow")`.

MLflow imports this module for whoever evaluates any model, so it imports nothing. Nor is its class derived from one of
MLflow's, which looks for two methods.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.models import EvaluationResult


class VideoEvaluator:
    """Evaluates the classifiers that this package saved, and leaves all other models to others."""

    @classmethod
    def can_evaluate(cls, *, model_type: str | None, **_: Any) -> bool:
        """Whether it may be one of ours: MLflow does not tell of the model here."""
        return model_type == "classifier"

    def evaluate(self, *, model: Any = None, **given: Any) -> "EvaluationResult | None":
        """Evaluates a model on labelled videos; None where it is not one of ours.

        Args:
            model: as `mlflow.pyfunc.load_model` gives it; None of predictions that are given.
            **given: whatever else MLflow tells evaluators.

        Raises:
            UserError: something in the data or the configuration is not as expected.
        """
        from vjepa_mlflow.flavor import FLAVOR_NAME

        if FLAVOR_NAME not in (getattr(getattr(model, "metadata", None), "flavors", None) or {}):
            return None
        from vjepa_mlflow.evaluation import ModelEvaluation

        return ModelEvaluation().evaluate(model=model, **given)
