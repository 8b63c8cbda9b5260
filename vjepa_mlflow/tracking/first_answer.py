"""The first answer of a tracking server or database: waited for with a message, and not for ever."""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from vjepa_mlflow.errors import UserError, reason
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.runtime.environment import temporary_environment
from vjepa_mlflow.runtime.interrupts import gentle_interrupts
from vjepa_mlflow.runtime.patience import PATIENCE, PAUSE, SAID_AFTER
from vjepa_mlflow.secrets import without_password
from vjepa_mlflow.tracking.answers import Answer, understand

logger = get_logger(__name__)

Response = TypeVar("Response")

SQLITE = "sqlite:"

_HALF_MADE = re.compile(r"already exists|duplicate column|no such (?:table|column)|has no column|Can't locate revision")
"""What SQLite and Alembic say of tables that a killed process has left."""


def wake_tracking() -> None:
    """Asks the tracking store for something, so that its first use, which makes tables, is behind us.

    Raises:
        UserError: it does not answer as one, or not in time; the message says what helps.
    """
    uri = mlflow.get_tracking_uri()
    if uri.startswith(SQLITE):
        _check_file(uri)
    with in_one_go(), quiet_databases():
        try:
            if not uri.startswith(SQLITE) and uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES:
                wait_for(lambda: _connect(uri), server())
            # Files are waited for without a bound: whoever gives up while tables are made leaves half of them.
            bounded = not uri.startswith(SQLITE)
            wait_for(lambda: MlflowClient().search_experiments(max_results=1), server(), bounded=bounded)
        except UserError:
            raise
        except Exception as error:
            raise _explain(uri, error) from error


def server() -> str:
    """The tracking server, as messages name it."""
    return f"tracking URI {without_password(mlflow.get_tracking_uri())}"


def wait_for(ask: Callable[[], Response], whom: str, *, bounded: bool = True) -> Response:
    """Returns what a server answers, which is asked again while it does not; warns what is waited for.

    Args:
        ask: asks it; it is called in a thread, so that nothing that it waits for can keep the command.
        whom: who is asked, for messages.
        bounded: whether it may take no longer than `PATIENCE`, also where it is still at the first attempt.

    Raises:
        UserError: there was no answer in that time.
        Exception: what it raises where somebody does answer.
    """
    asking = _Asking(ask)
    with _retries_of_our_own() as asking.patient:
        threading.Thread(target=asking.run, daemon=True, name="first answer").start()
        if not wait([asking.answer], timeout=SAID_AFTER).done:
            limit = f", for up to {PATIENCE:.0f} s" if bounded else ""
            logger.warning(f"{whom[0].upper()}{whom[1:]}: waiting for an answer{asking.why()}{limit}")
            while not wait([asking.answer], timeout=PATIENCE - SAID_AFTER).done:
                at_work = time.monotonic() - asking.began > PATIENCE / 2  # as MLflow is while it makes tables
                if bounded or (asking.why() and not at_work):
                    asking.given_up.set()
                    bound = f"none within {PATIENCE:.0f} s{asking.why()}"
                    raise UserError(f"{whom}: it does not answer: {bound}: expected one that does")
    return asking.answer.result()


class _Asking(Generic[Response]):
    """Asks again and again, in a thread, until there is an answer."""

    def __init__(self, ask: Callable[[], Response]):
        self._ask = ask
        self._transient_error: Exception | None = None
        self.answer: Future[Response] = Future()
        self.given_up = threading.Event()
        self.patient = True
        self.began = 0.0

    def run(self) -> None:
        while not self.given_up.is_set():
            self.began = time.monotonic()
            try:
                self.answer.set_result(self._ask())
                return
            except Exception as error:
                if understand(error) is not Answer.TRANSIENT or _is_half_made(error) or not self.patient:
                    self.answer.set_exception(error)
                    return
                self._transient_error = error
            self.given_up.wait(PAUSE)

    def why(self) -> str:
        """What the last attempt came to, in brackets."""
        return "" if self._transient_error is None else f" ({reason(self._transient_error)})"


@contextmanager
def _retries_of_our_own() -> Iterator[bool]:
    """Has MLflow leave it to us to ask again, which it would do for six minutes, unless the user has said how often.

    Yields whether it is left to us.
    """
    if MLFLOW_HTTP_REQUEST_MAX_RETRIES.name in os.environ:
        yield False
        return
    with temporary_environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES.name, "0"):
        yield True


@contextmanager
def quiet_databases() -> Iterator[None]:
    """Without MLflow's page on each of its own attempts at a database: what is wrong is in our messages."""

    def is_news(record: logging.LogRecord) -> bool:
        return record.levelno < logging.WARNING

    databases = logging.getLogger("mlflow.store.db.utils")
    databases.addFilter(is_news)
    try:
        yield
    finally:
        databases.removeFilter(is_news)


@contextmanager
def in_one_go() -> Iterator[None]:
    """Has an interrupt wait for what would else leave a store's tables, or a run that nobody ends, half made."""
    with gentle_interrupts("Stopping once the tracking store has answered; once more stops at once") as stopping:
        yield
        if stopping():
            raise KeyboardInterrupt


def _connect(uri: str) -> None:
    """Opens a database once, where MLflow would try ten times."""
    create_engine(uri, poolclass=NullPool).connect().close()


def _check_file(uri: str) -> None:
    """Refuses an SQLite file that cannot be written: MLflow would try for minutes."""
    try:
        database = make_url(uri).database
    except ArgumentError:
        return  # of which MLflow has a message
    if not database or database == ":memory:":
        return
    path = Path(database)
    place = path if path.exists() else path.parent
    if not place.exists():
        raise UserError(f"tracking URI {uri}: no such folder as {place}: expected one")
    if not (os.access(place, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)):  # SQLite writes beside its file
        raise UserError(
            f"tracking URI {uri}: {place.absolute()} cannot be written: expected a file that can, or the address of "
            f"a server, in MLFLOW_TRACKING_URI"
        )


def _explain(uri: str, error: Exception) -> UserError:
    answer = understand(error)
    if answer is Answer.LOCKED_OUT:
        key = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, as it knows them"
        if not uri.startswith("http"):
            key = "MLFLOW_TRACKING_URI with the password that it knows, or that in PGPASSWORD or ~/.pgpass"
        return UserError(f"{server()}: {answer.value} ({reason(error)}): expected {key}")
    if uri.startswith(SQLITE) and _is_half_made(error):
        return UserError(
            f"{server()}: its tables are half made ({reason(error)}): a process was killed while MLflow made or "
            f"changed them: expected a whole database; where nothing was logged yet, delete {make_url(uri).database}"
        )
    return UserError(f"{server()}: it does not answer as one ({reason(error)}): expected a tracking server or database")


def _is_half_made(error: Exception) -> bool:
    return isinstance(error, SQLAlchemyError) and _HALF_MADE.search(str(error)) is not None
