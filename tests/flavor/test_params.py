"""The parameters of a prediction, and the signature that has them."""

from typing import Any

import numpy as np
import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.flavor.faults import PredictionError
from vjepa_mlflow.flavor.params import Params
from vjepa_mlflow.flavor.signature import (
    COLUMNS,
    DEFAULT_PARAMS,
    MAX_CLIPS,
    check_answers,
    check_num_clips,
    default_signature,
)


@pytest.mark.parametrize("given", [None, {}, {"top_k": None}])
def test_what_is_not_given_has_its_default(given: dict[str, Any] | None) -> None:
    assert Params.read(given)._asdict() == DEFAULT_PARAMS == Params.defaults()._asdict()


def test_what_is_given_counts_also_as_numbers_of_numpy() -> None:
    params = Params.read({"top_k": np.int64(2), "num_clips": MAX_CLIPS, "bad_videos": "report"})
    assert params == Params(2, MAX_CLIPS, "report")
    assert type(params.top_k) is int


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"top_k": 0}, "top_k=0: expected a whole number of at least 1."),
        ({"num_clips": -1}, "num_clips=-1: expected a whole number of at least 1."),
        ({"num_clips": MAX_CLIPS + 1}, f"num_clips={MAX_CLIPS + 1}: expected at most {MAX_CLIPS}."),
        ({"bad_videos": "skip"}, "bad_videos=skip: expected one of stop, report."),
    ],
)
def test_what_is_out_of_its_range_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PredictionError) as refused:
        Params.read(given)
    assert refused.value.message == message


def test_a_command_refuses_the_same_numbers_of_clips() -> None:
    check_num_clips(MAX_CLIPS)
    for number in (0, MAX_CLIPS + 1):
        with pytest.raises(UserError, match=f"num_clips={number}: expected a whole number from 1 to {MAX_CLIPS}"):
            check_num_clips(number)


def test_the_signature_takes_the_parameters_and_gives_the_columns() -> None:
    signature = default_signature()
    assert {param.name: param.default for param in signature.params} == DEFAULT_PARAMS
    assert tuple(signature.outputs.input_names()) == COLUMNS
    assert signature.inputs.input_names() == ["video"]


def test_answers_that_are_no_numbers_are_refused() -> None:
    check_answers(np.array([0.5, 0.5]))
    with pytest.raises(UserError, match="the model's answer is no number"):
        check_answers(np.array([0.5, np.nan]))
