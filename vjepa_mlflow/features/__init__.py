"""Clips to features, kept and found again."""

from typing import TYPE_CHECKING

from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
    from vjepa_mlflow.features.assembly import Clip
    from vjepa_mlflow.features.encoder import Encoder, gpu_readers
    from vjepa_mlflow.features.forms import choose_form
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

__getattr__ = load_when_used(__name__)
