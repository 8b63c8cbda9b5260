"""The MLflow flavour: V-JEPA 2 video classifiers saved, logged, loaded and served."""

from typing import TYPE_CHECKING

from vjepa_mlflow.lazy import load_when_used

if TYPE_CHECKING:
    from vjepa_mlflow.flavor.config import ServingConfig
    from vjepa_mlflow.flavor.loading import (
        LoadedModel,
        _load_pyfunc,
        fetch_model,
        load_fetched,
        load_model,
        make_video_classifier,
    )
    from vjepa_mlflow.flavor.saved_format import CHECKPOINT_FOLDER, FLAVOR_NAME, FORMAT_VERSION, URI_SCHEMES
    from vjepa_mlflow.flavor.saved_model import FetchedModel
    from vjepa_mlflow.flavor.saving import (
        example_input,
        example_video,
        get_default_pip_requirements,
        log_model,
        log_trained,
        save_model,
        save_trained,
    )
    from vjepa_mlflow.flavor.signature import BAD_VIDEOS, check_answers, check_num_clips

__getattr__ = load_when_used(__name__)
