"""What this package uses of MLflow's scoring server that MLflow does not document.

The server has no public way for a model to answer requests by itself, nor to read them as it does.
Looked at in MLflow 3.4 and 3.17, of mlflow>=3.4,<4.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import PyFuncModel, _validate_prediction_input, scoring_server
from mlflow.utils.proto_json_utils import dataframe_from_parsed_json

CONTENT_TYPES = scoring_server.CONTENT_TYPES
CSV, JSON, PARQUET = (
    scoring_server.CONTENT_TYPE_CSV,
    scoring_server.CONTENT_TYPE_JSON,
    scoring_server.CONTENT_TYPE_PARQUET,
)
FORMS, PARAMS = scoring_server.SUPPORTED_FORMATS, scoring_server.SERVING_PARAMS_KEY
EXPECTED_FORM = scoring_server.REQUIRED_INPUT_FORMAT
"""Types of requests, keys of those in JSON, and what it says of a request without: documented for HTTP alone."""

FRAMES = {scoring_server.DF_SPLIT: "split", scoring_server.DF_RECORDS: "records"}
"""Forms of data whose base64 MLflow decodes, and what pandas calls them."""

PLACE = "/invocations"
"""Where predictions are asked for."""


def read_frame(value: Any, *, orient: str) -> pd.DataFrame:
    """Makes a data frame of parsed JSON with the server's own conversions; a public function takes files alone."""
    return dataframe_from_parsed_json(value, pandas_orient=orient)


def check_input(data: Any, params: Any, signature: ModelSignature) -> tuple[Any, dict[str, Any] | None]:
    """Data and params as a model's signature has them; publicly that comes with a prediction alone.

    Raises:
        MlflowException: the model does not take them.
    """
    return _validate_prediction_input(data, params, signature.inputs, signature.params)


def add_to_next_app(middleware: Callable[..., Any]) -> None:
    """Has the application that the server makes next ask a middleware first.

    It changes `fastapi.FastAPI` until that is made: the server makes it once the model is loaded, by a function that
    takes nothing but the model. To be called in the server's own process alone.

    Args:
        middleware: in ASGI.
    """
    import fastapi
    from starlette.middleware import Middleware

    plain = fastapi.FastAPI

    class GuardedApp(plain):  # type: ignore[misc, valid-type]
        def __init__(self, **options: Any):
            fastapi.FastAPI = plain  # type: ignore[misc]
            super().__init__(**options)
            self.user_middleware.append(Middleware(middleware))

    fastapi.FastAPI = GuardedApp  # type: ignore[misc]


def models_of(app: Any) -> Iterator[PyFuncModel]:
    """The model that the server has made an application for: it stands nowhere but in the function that answers."""
    for route in app.routes:
        if getattr(route, "path", "") == PLACE:
            model = inspect.getclosurevars(inspect.unwrap(route.endpoint)).nonlocals.get("model")
            if isinstance(model, PyFuncModel):
                yield model
