"""A study's database: told from MLflow's, opened, and waited for when its server is away."""

import functools
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import URL, Connection, Engine, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.runtime.patience import AwayError, Patience
from vjepa_mlflow.secrets import without_secrets

ATTEMPTS = 3
"""To open a storage."""

HALF_MADE = (RuntimeError, AssertionError)
"""What Optuna raises where its tables are there, and the note of their version is not, or is another one's."""

CONNECT_ARGUMENTS: dict[str, dict[str, Any]] = {
    "sqlite": {"timeout": 60},
    "postgresql": {
        "connect_timeout": 5,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    },
}
"""Of databases: how many seconds to wait for another's write, or for a server that may have vanished; PostgreSQL's
last one is in milliseconds."""

SQLITE = "sqlite"
DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306}

OF_MLFLOW = frozenset({"experiments", "runs", "registered_models"})
"""Tables that tell MLflow's database."""

STUDIES = "studies"
"""Optuna's table of them."""

REPEATABLE = (
    "create_new_study",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_trial",
    "get_trial_id_from_study_id_trial_number",
    "get_trial_param",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "set_trial_intermediate_value",
    "_get_trials",
    "_get_best_trial_id",
    "_set_trial_param",
)
"""What may be asked again after it has arrived: it reads, or writes what is then there already."""

_NEVER = re.compile(
    r"password|authentication|does not exist|pg_hba\.conf|access denied|unknown database", re.IGNORECASE
)
"""What servers say that do answer, and will not say otherwise later."""


class PatientStorage(RDBStorage):
    """Optuna's storage, with a server that is waited for, and with signs of life that anybody may read.

    Each call is one transaction, and is asked again while nobody answers. Its answer may be what was lost, so of those
    that are not `REPEATABLE`, one looks what has become of it (`set_trial_state_values`), and the other is left to who
    knows what it is for (`create_new_trial`). What has a name of its own here asks once.

    Args:
        url: the database's.
        study: that is worked on.
        patience: with its server.
    """

    def __init__(self, url: str, study: str, patience: Patience):
        self.patience = patience
        self._url, self._study = url, study
        backend = make_url(url).get_backend_name()
        # A connection that broke while it was not used is replaced before it is.
        super().__init__(
            url, engine_kwargs={"connect_args": CONNECT_ARGUMENTS.get(backend, {}), "pool_pre_ping": backend != SQLITE}
        )
        if backend == SQLITE:
            _make_transactions_exclusive(self.engine)
            self._file = _identity(self.engine.url)
        else:
            _tell_who_is_away(self.engine)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's.

        A trial that was taken by a call whose answer was lost is nobody's, and found as that of a dead process is.
        """
        asked = 0

        def tell() -> bool:
            nonlocal asked
            asked += 1
            try:
                return super(PatientStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if asked > 1 and self.get_trial(trial_id).state == state:  # the first time has arrived
                    return True
                raise

        return self.repeat(tell)

    def repeat(self, ask: Callable[[], Any]) -> Any:
        """Asks the database something, again while it is away.

        Raises:
            UserError: it stays away, or the study, or its trial, is not there any more.
        """
        try:
            return self.patience.ask(ask)
        except KeyError as error:
            if self._is_there():
                raise
            raise self.gone() from error

    def _is_there(self) -> bool:
        try:
            RDBStorage.get_study_id_from_name(self, self._study)
        except KeyError:
            return False
        return True

    def gone(self) -> UserError:
        """Says that the study is not there any more, or is another one."""
        return UserError(
            f"study={self._study}: it was deleted from {without_secrets(self._url)}, or made anew there, while it ran: "
            f"expected it to stay; the same command begins a new one, or goes on with what is there"
        )

    def check_file(self) -> None:
        """Refuses to go on in a file that nobody else sees any more.

        Raises:
            UserError: it was deleted or replaced.
        """
        if self.engine.url.get_backend_name() == SQLITE and _identity(self.engine.url) != self._file:
            raise UserError(
                f"storage={self._url}: the file was deleted or replaced while the study ran: expected it to stay"
            )

    def note_once(self, trial_id: int, name: str, content: Any) -> None:
        super().set_trial_user_attr(trial_id, name, content)

    def signs_of_life(self, study_id: int) -> dict[int, object]:
        """The last sign of life of each running trial, by its id; None where there is none."""
        query = text(
            "SELECT trials.trial_id, heartbeat FROM trials LEFT JOIN trial_heartbeats "
            "ON trials.trial_id = trial_heartbeats.trial_id WHERE study_id = :study AND state = 'RUNNING'"
        )
        with self.engine.connect() as connection:
            rows = connection.execute(query, {"study": study_id})
            return {row.trial_id: row.heartbeat for row in rows}

    def interrupt(self, trial_id: int) -> None:
        super().set_trial_state_values(trial_id, TrialState.FAIL)


def _patiently(name: str) -> Callable[..., Any]:
    method = getattr(RDBStorage, name)

    @functools.wraps(method)
    def ask(self: PatientStorage, *arguments: Any, **named: Any) -> Any:
        return self.repeat(lambda: method(self, *arguments, **named))

    return ask


for _name in REPEATABLE:
    setattr(PatientStorage, _name, _patiently(_name))


def open_storage(url: str, study: str, *, tracking_uri: str = "", tells: bool = True) -> PatientStorage:
    """Opens a database for a study, and makes Optuna's tables where there are none.

    Args:
        url: the database's.
        study: that is worked on.
        tracking_uri: MLflow's, whose database is to be another one.
        tells: whether to say that a server is waited for.

    Raises:
        UserError: it is no database URL, or MLflow's database, or its server stays away.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UserError(
            f"storage={_beginning(url)}: no database URL: expected one such as sqlite:///optuna.db"
        ) from error
    patience = Patience(f"storage={without_secrets(url)}", tells=tells)
    patience.ask(lambda: _check_owner(parsed, study, tracking_uri))
    for left in reversed(range(ATTEMPTS)):
        try:
            return PatientStorage(url, study, patience)
        except (StorageInternalError, SQLAlchemyError, *HALF_MADE):  # another process may just be making the tables
            if not left:
                raise
            time.sleep(1)
    raise AssertionError


def _check_owner(url: URL, study: str, tracking_uri: str) -> None:
    """Refuses MLflow's database, whose tables and Optuna's spoil each other, unless the study is in it already."""
    if url.get_backend_name() == SQLITE and not (url.database and Path(url.database).is_file()):
        tables, knows_study = set[str](), False  # nor is one made by looking
    else:
        tables, knows_study = _look_into(url, study)
    if not knows_study and (tables >= OF_MLFLOW or _place(url) == _place_of(tracking_uri)):
        raise UserError(
            f"storage={without_secrets(str(url))}: it is MLflow's database: expected one of its own (--storage), such "
            f"as sqlite:///studies.db or postgresql://user@host/studies"
        )


def _look_into(url: URL, study: str) -> tuple[set[str], bool]:
    """The tables in a database, and whether Optuna's know a study."""
    arguments = CONNECT_ARGUMENTS.get(url.get_backend_name(), {})
    engine = create_engine(url, connect_args=arguments, poolclass=NullPool)
    _tell_who_is_away(engine)
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        query = text("SELECT 1 FROM studies WHERE study_name = :name")
        return tables, STUDIES in tables and connection.execute(query, {"name": study}).first() is not None


def _place_of(tracking_uri: str) -> tuple[Any, ...] | None:
    try:
        return _place(make_url(tracking_uri))
    except (ArgumentError, ImportError, SQLAlchemyError):  # a folder, or a server's address
        return None


def _place(url: URL) -> tuple[Any, ...]:
    """What is the same where two URLs name one database."""
    backend = url.drivername.partition("+")[0]
    if backend == SQLITE:
        return backend, Path(url.database or "").resolve()
    return backend, url.host, url.port or DEFAULT_PORTS.get(backend), url.database


def _tell_who_is_away(engine: Engine) -> None:
    """Has a server that does not answer raise `AwayError`, which Optuna makes nothing else of."""
    if engine.url.get_backend_name() == SQLITE:
        return

    @event.listens_for(engine, "handle_error")
    def _(context: ExceptionContext) -> None:
        connecting = context.connection is None
        if context.is_pre_ping or not (context.is_disconnect or connecting):
            return
        said = one_line(context.original_exception)
        if not _NEVER.search(said):
            raise AwayError(said) from context.original_exception


def _identity(url: URL) -> tuple[int, int] | None:
    """Of the file of an SQLite database; None where there is none."""
    try:
        found = Path(url.database or "").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _beginning(text: str) -> str:
    """No more than the first word of what has no form of a URL: where a password would stand in it is not known."""
    if "://" in text:
        return without_secrets(text)
    word = re.split(r"[^\w.+-]", text, maxsplit=1)[0]
    return word if word == text else f"{word}..."


def _make_transactions_exclusive(engine: Engine) -> None:
    """Has SQLite lock the database from a transaction's first read on, as others lock what is read to be changed.

    Otherwise two processes find a trial waiting, and both take it. SQLAlchemy's documentation of SQLite tells how:
    Python's module leaves the beginning of transactions to us, and we begin them with the lock.
    """

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # of connections from before
