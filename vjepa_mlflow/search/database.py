"""How a study's database is connected to, whatever it is: how long it is waited for, and what tells that it is away."""

import re
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, ExceptionContext

from vjepa_mlflow.errors import one_line
from vjepa_mlflow.runtime.patience import AwayError

SQLITE = "sqlite"

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

_REFUSALS = re.compile(
    r"password|authentication|does not exist|pg_hba\.conf|access denied|unknown database", re.IGNORECASE
)
"""What servers say that do answer, and will not say otherwise later."""


def raise_when_away(engine: Engine) -> None:
    """Has a server that does not answer raise `AwayError`, which Optuna makes nothing else of."""
    if engine.url.get_backend_name() == SQLITE:
        return

    @event.listens_for(engine, "handle_error")
    def _(context: ExceptionContext) -> None:
        connecting = context.connection is None
        if context.is_pre_ping or not (context.is_disconnect or connecting):
            return
        message = one_line(context.original_exception)
        if not _REFUSALS.search(message):
            raise AwayError(message) from context.original_exception


def make_transactions_exclusive(engine: Engine) -> None:
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


def file_identity(url: URL) -> tuple[int, int] | None:
    """What stays the same while an SQLite database is the same file; None where there is none."""
    try:
        status = Path(url.database or "").stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
