"""What a logged model takes and gives."""

from typing import TYPE_CHECKING

import numpy as np

from vjepa_mlflow.bad_videos import REPORT, STOP
from vjepa_mlflow.errors import UserError

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

DEFAULT_PARAMS: dict[str, int | str] = {"top_k": 5, "num_clips": 1, "bad_videos": STOP}
"""Of a prediction: how many labels to return, over how many clips of a video to average, and what a video that cannot
be read does."""

BAD_VIDEOS = (STOP, REPORT)
"""Refuse the whole request, or give the reason in the column `error` of that row."""

COLUMNS = ("label", "score", "top_k", "warning", "error")

MAX_CLIPS = 32
"""Clips of one video at most."""


def check_num_clips(num_clips: int) -> None:
    """Refuses a number of clips that no prediction takes.

    Raises:
        UserError: it is below 1 or above `MAX_CLIPS`.
    """
    if not 1 <= num_clips <= MAX_CLIPS:
        raise UserError(f"num_clips={num_clips}: expected a whole number from 1 to {MAX_CLIPS}")


def default_signature() -> "ModelSignature":
    """A binary column `video` in; `COLUMNS` out; parameters as in `DEFAULT_PARAMS`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    pair = Object([Property("label", DataType.string), Property("score", DataType.double)])
    types = (DataType.string, DataType.double, Array(pair), DataType.string, DataType.string)
    kinds = {str: DataType.string, int: DataType.integer}
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "video")]),
        outputs=Schema([ColSpec(type_, name, required=False) for name, type_ in zip(COLUMNS, types, strict=True)]),
        params=ParamSchema([ParamSpec(name, kinds[type(value)], value) for name, value in DEFAULT_PARAMS.items()]),
    )


def check_answers(probabilities: np.ndarray) -> None:
    """Refuses answers that are no numbers, as of weights that are finite and so large that sums of them are not.

    Raises:
        UserError: says so.
    """
    if not np.isfinite(probabilities).all():
        raise UserError("the model's answer is no number: expected probabilities; its weights are too large for them")
