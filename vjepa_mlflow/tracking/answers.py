"""What the errors of a tracking server and of a store of artifacts mean: for what is being logged, and to the user."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import requests
import urllib3
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from vjepa_mlflow.errors import reason
from vjepa_mlflow.internals import mlflow_private
from vjepa_mlflow.logs import get_logger

logger = get_logger(__name__)


class Answer(Enum):
    """What to do with an entry that did not arrive."""

    TRANSIENT = "it does not answer"
    """Nobody answered, or who did cannot just now: the same is tried again, and nothing overtakes it."""

    LOCKED_OUT = "it does not let this user in"
    """The password is another one by now: as where nobody answers, since all that follows would fare the same."""

    FORBIDDEN = "it does not allow that"
    REFUSAL = "it refuses"
    """Set aside for what is behind it, and tried once more in the end; so is what fails for any other reason."""

    @property
    def blocks(self) -> bool:
        """Whether what is behind it would fare the same."""
        return self in (Answer.TRANSIENT, Answer.LOCKED_OUT)


BY_CODE = {
    "TEMPORARILY_UNAVAILABLE": Answer.TRANSIENT,  # a database that is away, too
    "REQUEST_LIMIT_EXCEEDED": Answer.TRANSIENT,
    "RESOURCE_EXHAUSTED": Answer.TRANSIENT,
    "DEADLINE_EXCEEDED": Answer.TRANSIENT,
    "COULD_NOT_ACQUIRE_LOCK": Answer.TRANSIENT,
    "CUSTOMER_UNAUTHORIZED": Answer.LOCKED_OUT,
    "UNAUTHENTICATED": Answer.LOCKED_OUT,
    "PERMISSION_DENIED": Answer.FORBIDDEN,
}
"""MLflow's error codes that do not mean a refusal."""

UNTOLD = ("INTERNAL_ERROR", "BAD_REQUEST")
"""Codes that do not say which: MLflow has the first where nobody answers as for a server's fault, and the second for
whatever SQLAlchemy raises. What is behind them does."""

BY_STATUS = {
    401: Answer.LOCKED_OUT,
    403: Answer.FORBIDDEN,
    408: Answer.TRANSIENT,
    425: Answer.TRANSIENT,
    429: Answer.TRANSIENT,
    502: Answer.TRANSIENT,
    503: Answer.TRANSIENT,
    504: Answer.TRANSIENT,
    507: Answer.TRANSIENT,
    **dict.fromkeys(range(520, 531), Answer.TRANSIENT),  # of gateways, such as Cloudflare's
}
"""HTTP's, from a store of artifacts, or from a proxy in front of a server. 500 is a fault of what was sent to it."""

GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")
"""Codes with which MLflow refuses what is logged to a run that was deleted."""

LEAST_ERROR = 400
"""Of HTTP's statuses."""

_LOCKED_OUT = re.compile(r"password|authentication|access denied for user", re.IGNORECASE)
"""What PostgreSQL and MySQL say of a user whom they do not let in."""

_NEVER = re.compile(
    r"readonly database|read-only transaction|no such (?:table|column)|too many SQL variables|permission denied for|"
    r"command denied|incorrect string value|bigger than 'max_allowed_packet'",
    re.IGNORECASE,
)
"""What databases say of a statement that fares no better later; their drivers raise it as if they were away."""

CONNECTION_ERRORS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    OperationalError,
    InterfaceError,
    DisconnectionError,
    PoolTimeoutError,
)
"""What is raised where nobody answers: also by S3's, Azure's and Google's clients, beneath errors of their own."""


def understand(error: BaseException) -> Answer:
    """What an error of a tracking server, a database or a store of artifacts means, whoever made it."""
    causes = list(_causes(error))
    message = " ".join(_driver_message(cause) for cause in causes)
    if _NEVER.search(message):
        return Answer.FORBIDDEN if "denied" in message else Answer.REFUSAL
    for cause in causes:
        if isinstance(cause, MlflowException) and cause.error_code not in UNTOLD:
            return BY_CODE.get(cause.error_code, Answer.REFUSAL)
        if (status := _status(cause)) is not None:
            return BY_STATUS.get(status, Answer.REFUSAL)
    if any(isinstance(cause, PermissionError) for cause in causes):
        return Answer.FORBIDDEN
    if _LOCKED_OUT.search(message):
        return Answer.LOCKED_OUT
    return Answer.TRANSIENT if any(map(_is_connection_error, causes)) else Answer.REFUSAL


@contextmanager
def permitted(consequence: str) -> Iterator[None]:
    """Warns, once, of what a user may not do, such as to delete or tag what is another's, and fails nothing.

    Args:
        consequence: the warning: what stays undone.
    """
    try:
        yield
    except Exception as error:  # of whichever store
        if understand(error) is not Answer.FORBIDDEN:
            raise
        if consequence not in _warnings:
            _warnings.add(consequence)
            logger.warning(f"{consequence}, since this user may not change it ({reason(error)})")


_warnings: set[str] = set()
"""That this process has given."""


def _is_connection_error(error: BaseException) -> bool:
    return isinstance(error, CONNECTION_ERRORS) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it came from; where errors are raised again, they may come from each other."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _driver_message(error: BaseException) -> str:
    """The message of a database's driver, or of a server for it, without the statement and its values; else empty."""
    if isinstance(error, OperationalError | ProgrammingError):  # others quote the values
        return str(error.orig)
    if isinstance(error, MlflowException) and error.error_code == "TEMPORARILY_UNAVAILABLE":
        return str(error).partition("[SQL")[0]
    return ""


def _status(error: BaseException) -> int | None:
    """HTTP's status, as requests, urllib3, botocore, Azure's and Google's clients have it; None where there is none."""
    if isinstance(error, urllib3.exceptions.ResponseError | MlflowException):
        return mlflow_private.status_in(str(error))
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        places = ((response, "status_code"), (error, "status_code"), (error, "code"))
        status = next((getattr(place, name) for place, name in places if hasattr(place, name)), None)
    return int(status) if isinstance(status, int) and status >= LEAST_ERROR else None


def describe(error: BaseException, run_id: str) -> str:
    """What an error says, in a line; where it comes of the run's deletion, or of its experiment's, that."""
    gone = any(isinstance(cause, MlflowException) and cause.error_code in GONE for cause in _causes(error))
    return (describe_deletion(run_id) if gone else "") or reason(error)


def describe_deletion(run_id: str) -> str:
    """What was deleted, with the way back; empty where nothing was."""
    client = MlflowClient()
    try:
        run = client.get_run(run_id)
        experiment = client.get_experiment(run.info.experiment_id)
    except MlflowException as error:
        return f"run {run_id} was deleted" if error.error_code == "RESOURCE_DOES_NOT_EXIST" else ""
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        number = experiment.experiment_id
        return f"experiment {number} was deleted; mlflow experiments restore --experiment-id {number}"
    if run.info.lifecycle_stage == LifecycleStage.DELETED:
        return f"run {run_id} was deleted; mlflow runs restore --run-id {run_id}"
    return ""
