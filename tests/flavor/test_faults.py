"""What a client reads when its request is at fault."""

import pytest
from mlflow.exceptions import MlflowException

from vjepa_mlflow.flavor.faults import LONGEST_SENTENCE, PredictionError, sentence_of


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("The input is wrong.", "The input is wrong."),
        ("First.\nSecond.", "First."),
        ("Failed to predict data 'AAAA'. \nError: Column missing.", "Column missing."),
        ("Failed to enforce schema of data 'AA\nAA' with schema 'x'. Error: Column missing.", "Column missing."),
        ("No such key. IMPORTANT: The MLflow Model scoring protocol has changed in 2.0.", "No such key."),
        ("", "The request cannot be served."),
    ],
)
def test_it_is_one_sentence_without_the_request(message: str, sentence: str) -> None:
    assert sentence_of(MlflowException(message)) == sentence


def test_it_is_not_long() -> None:
    assert len(sentence_of(MlflowException("a" * 2 * LONGEST_SENTENCE))) == LONGEST_SENTENCE


def test_a_fault_of_the_request_is_answered_400() -> None:
    assert PredictionError("Wrong.").get_http_status_code() == 400
