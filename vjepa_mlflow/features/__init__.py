"""Clips to features, kept and found again."""

from vjepa_mlflow.features.encoder import Clip, Encoder
from vjepa_mlflow.features.memory import FeatureMemory
from vjepa_mlflow.features.sets import EvaluationSet, LabelledFeatures, TrainingSet

__all__ = ["Clip", "Encoder", "EvaluationSet", "FeatureMemory", "LabelledFeatures", "TrainingSet"]
