"""What a client of MLflow's scoring server reads when its request is at fault."""

import json
import re
import sys

from mlflow.exceptions import MlflowException

SERVER_MODULE = "mlflow.pyfunc.scoring_server.app"
_ECHO = re.compile(r"^Failed to (?:predict data|enforce schema).*Error: ", re.DOTALL)


def shorten_error_answers() -> None:
    """Makes the scoring server answer errors with one sentence, if this process is one.

    The server refuses some requests before it calls the model. Its answers then hold stack traces, for a table that
    cannot be parsed, or the request's whole data. A model has no other place to change that than the exception itself.
    """
    if SERVER_MODULE in sys.modules:
        MlflowException.serialize_as_json = _as_one_sentence


def _as_one_sentence(error: MlflowException) -> str:
    lines = _ECHO.sub("", error.message).strip().splitlines()
    return json.dumps({"error_code": error.error_code, "message": lines[0] if lines else ""})
