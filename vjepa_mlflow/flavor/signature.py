"""What a logged model takes and gives."""

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Object, Property

from vjepa_mlflow.errors import UserError

DEFAULT_PARAMS = {"top_k": 5, "num_clips": 1}
"""Of a prediction: how many labels to return, and over how many clips of a video to average."""

MAX_CLIPS = 32
"""Clips of one video at most."""


def check_num_clips(num_clips: int) -> None:
    """Refuses a number of clips that no prediction takes.

    Raises:
        UserError: it is below 1 or above `MAX_CLIPS`.
    """
    if not 1 <= num_clips <= MAX_CLIPS:
        raise UserError(f"num_clips={num_clips}: expected a whole number from 1 to {MAX_CLIPS}")


def default_signature() -> ModelSignature:
    """A binary column `video` in; `label`, `score` and `top_k` out; parameters `top_k` and `num_clips`."""
    pair = Object([Property("label", DataType.string), Property("score", DataType.double)])
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "video")]),
        outputs=Schema(
            [ColSpec(DataType.string, "label"), ColSpec(DataType.double, "score"), ColSpec(Array(pair), "top_k")]
        ),
        params=ParamSchema([ParamSpec(name, DataType.integer, default) for name, default in DEFAULT_PARAMS.items()]),
    )
