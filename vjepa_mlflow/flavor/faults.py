"""What a client reads when its request is at fault: one sentence."""

import re

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

OUR_FAULT = "The model failed on this request; its log says why."
LONGEST_SENTENCE = 500

_ECHO = re.compile(r"^Failed to (?:predict data|enforce schema).*Error: ", re.DOTALL)
_ADVICE = re.compile(r"\. IMPORTANT: The MLflow Model scoring protocol has changed.*", re.DOTALL)


class PredictionError(MlflowException):
    """One sentence for the client; a fault of the request is answered 400, one of the model 500."""

    def __init__(self, sentence: str, error_code: int = INVALID_PARAMETER_VALUE):
        super().__init__(sentence, error_code=error_code)


def sentence_of(error: MlflowException) -> str:
    """The first line of what is said to be wrong, without the request that it repeats and advice on MLflow 1."""
    lines = _ADVICE.sub(".", _ECHO.sub("", error.message)).strip().splitlines()
    return lines[0][:LONGEST_SENTENCE] if lines else "The request cannot be served."
