"""Clips to features, kept and found again."""

from vjepa_mlflow.features.encoder import Clip, Encoder
from vjepa_mlflow.features.sets import (
    EvaluationSet,
    LabelledFeatures,
    TrainingSet,
    all_clips,
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
    "all_clips",
    "evaluation_clips",
    "training_clips",
    "training_order",
]
