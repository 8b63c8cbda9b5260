"""The videos in a data frame."""

import base64
import binascii
import re
from typing import Any

import pandas as pd

from vjepa_mlflow.flavor.faults import PredictionError
from vjepa_mlflow.video import VideoError

COLUMN = "video"
EXPECTED = "expected the content of a video file"
_TEXT = re.compile(rb"[\s!-~]*")


def read_contents(model_input: pd.DataFrame, *, at_most: int) -> list[bytes | VideoError]:
    """The contents of files in the column `video`, as bytes or as base64 text, or why there is none.

    Raises:
        PredictionError: there is no such column, or there are no rows, or too many.
    """
    check_frame(model_input, at_most=at_most)
    return [_content(value) for value in model_input[COLUMN]]


def check_frame(model_input: pd.DataFrame, *, at_most: int) -> None:
    """Refuses a data frame without videos, or with too many.

    Raises:
        PredictionError: says so.
    """
    if list(model_input.columns).count(COLUMN) != 1 or model_input.empty:
        raise PredictionError("Expected at least one row, with one column 'video' that holds a video file.")
    if len(model_input) > at_most:
        raise PredictionError(f"The request holds {len(model_input)} videos: expected at most {at_most} (max_videos).")


def _content(value: Any) -> bytes | VideoError:
    """Returns a file's content. The scoring server decodes base64 in some forms of payload and not in others."""
    if isinstance(value, VideoError):
        return value
    if isinstance(value, str):
        value = value.encode(errors="replace")
    if isinstance(value, memoryview):
        value = bytes(value)
    if not isinstance(value, bytes | bytearray):
        return VideoError(f"it is of type {type(value).__name__}: {EXPECTED}")
    if not value:
        return VideoError(f"it is empty: {EXPECTED}")
    if _TEXT.fullmatch(value[:64]) is None:
        return bytes(value)  # no format of video begins with so many printable characters
    try:
        return base64.b64decode(b"".join(value.split()), validate=True)
    except binascii.Error:
        return VideoError(f"it is text that is no video in base64: {EXPECTED} in base64")
