"""Clips to features, kept and found again."""

from vjepa_mlflow.features.encoder import Clip, Encoder
from vjepa_mlflow.features.sets import (
    EvaluationSet,
    LabelledFeatures,
    TrainingSet,
    evaluation_clips,
    training_clips,
    training_order,
)
from vjepa_mlflow.features.source import FeatureSource

__all__ = [
    "Clip",
    "Encoder",
    "EvaluationSet",
    "FeatureSource",
    "LabelledFeatures",
    "TrainingSet",
    "evaluation_clips",
    "training_clips",
    "training_order",
]
