"""A checkpoint to a frozen backbone and a head."""

from typing import TYPE_CHECKING

from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
    from vjepa_mlflow.model.cached import model_cache_dir
    from vjepa_mlflow.model.captured import Captured
    from vjepa_mlflow.model.checkpoint import (
        BASE_SHAPE,
        TINY_FOLDER,
        WEIGHTS_FILE,
        Checkpoint,
        check_name,
        choose,
        clip_shape,
        from_folder,
        keeps_classifier,
        locate,
    )
    from vjepa_mlflow.model.classifier import (
        copy_to,
        freeze_backbone,
        from_arrays,
        label_names,
        load_classifier,
        load_processor,
        load_trained,
        make_processor,
        preprocessing_of,
        to_arrays,
    )
    from vjepa_mlflow.model.configuration import ClipShape, Preprocessing, Sides
    from vjepa_mlflow.model.device import (
        autocast,
        choose_device,
        cpu_threads,
        describe_device,
        is_out_of_memory,
        matmul_precision,
        training_numerics,
        use_device,
    )
    from vjepa_mlflow.model.forward import (
        EAGER,
        LEAN,
        TRANSFORMERS,
        Backbone,
        encoder_forms,
        features_dtype,
        form_for,
        head_forms,
        training_head,
    )
    from vjepa_mlflow.model.frozen import FrozenBackbone, LoadedBackbone, OpenedCheckpoint, drawn_anew, open_checkpoint
    from vjepa_mlflow.model.head import Architecture, Head, ParameterCounts, count_parameters
    from vjepa_mlflow.model.identity import backbone_digest, preprocessing_digest, weights_digest
    from vjepa_mlflow.model.preprocessing import CENTRED, cut_out, preprocess, resize
    from vjepa_mlflow.model.quiet import quiet_transformers
    from vjepa_mlflow.model.taken_apart import take_apart
    from vjepa_mlflow.model.trained import CheckpointBackbone, Trained, WriteBackbone, write_checkpoint, written_beside

__getattr__ = load_when_used(__name__)
