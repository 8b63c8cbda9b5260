"""The videos in a data frame: every form in which a client may send one, and what is said of the others."""

import base64
from typing import Any

import pandas as pd
import pytest

from vjepa_mlflow.flavor.contents import COLUMN, check_frame, read_contents
from vjepa_mlflow.flavor.faults import PredictionError
from vjepa_mlflow.video import VideoError

VIDEO = bytes(range(256)) * 2
TEXT = base64.b64encode(VIDEO)


def read(value: Any) -> bytes | VideoError:
    (content,) = read_contents(pd.DataFrame({COLUMN: [value]}), at_most=1)
    return content


@pytest.mark.parametrize("value", [VIDEO, bytearray(VIDEO), memoryview(VIDEO), TEXT, TEXT.decode(), b" \n" + TEXT])
def test_every_form_of_a_file_is_read(value: Any) -> None:
    assert read(value) == VIDEO


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (7, "it is of type int: expected the content of a video file"),
        (None, "it is of type NoneType: expected the content of a video file"),
        (b"", "it is empty: expected the content of a video file"),
        ("not base64!", "it is text that is no video in base64: expected the content of a video file in base64"),
    ],
)
def test_what_is_no_content_is_named(value: Any, reason: str) -> None:
    fault = read(value)
    assert isinstance(fault, VideoError)
    assert str(fault) == reason


def test_why_a_row_has_none_is_handed_on() -> None:
    fault = VideoError("it is missing")
    assert read(fault) is fault


@pytest.mark.parametrize(
    "frame", [pd.DataFrame({"other": [1]}), pd.DataFrame({COLUMN: []}), pd.DataFrame([[1, 2]], columns=[COLUMN] * 2)]
)
def test_a_frame_without_one_column_of_videos_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(PredictionError, match="Expected at least one row, with one column 'video'"):
        check_frame(frame, at_most=9)


def test_too_many_videos_are_refused() -> None:
    frame = pd.DataFrame({COLUMN: [VIDEO] * 3})
    check_frame(frame, at_most=3)
    with pytest.raises(PredictionError, match="holds 3 videos: expected at most 2"):
        check_frame(frame, at_most=2)
