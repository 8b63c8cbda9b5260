"""A checkpoint to a frozen backbone and a head."""

from vjepa_mlflow.model.captured import Captured
from vjepa_mlflow.model.checkpoint import TINY_FOLDER, Checkpoint, choose, from_folder, locate
from vjepa_mlflow.model.classifier import (
    Head,
    ParameterCounts,
    count_parameters,
    freeze_backbone,
    label_names,
    load_classifier,
    load_processor,
    load_trained,
)
from vjepa_mlflow.model.device import (
    autocast,
    choose_device,
    describe_device,
    is_out_of_memory,
    matmul_precision,
    training_numerics,
    use_device,
)
from vjepa_mlflow.model.forward import Backbone, training_head
from vjepa_mlflow.model.identity import backbone_digest, processor_digest, weights_digest
from vjepa_mlflow.model.preprocessing import CENTRED, preprocess
from vjepa_mlflow.model.quiet import quiet_transformers

__all__ = [
    "CENTRED",
    "TINY_FOLDER",
    "Backbone",
    "Captured",
    "Checkpoint",
    "Head",
    "ParameterCounts",
    "autocast",
    "backbone_digest",
    "choose",
    "choose_device",
    "count_parameters",
    "describe_device",
    "freeze_backbone",
    "from_folder",
    "is_out_of_memory",
    "label_names",
    "load_classifier",
    "load_processor",
    "load_trained",
    "locate",
    "matmul_precision",
    "preprocess",
    "processor_digest",
    "quiet_transformers",
    "training_head",
    "training_numerics",
    "use_device",
    "weights_digest",
]
