"""Telling MLflow's own database from one that a study may be in."""

from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.internals.optuna_private import STUDIES_TABLE, has_study
from vjepa_mlflow.search.database import CONNECT_ARGUMENTS, SQLITE, raise_when_away
from vjepa_mlflow.secrets import without_secrets

DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306}

MLFLOW_TABLES = frozenset({"experiments", "runs", "registered_models"})


def refuse_mlflow_database(url: URL, study: str, tracking_uri: str) -> None:
    """Refuses MLflow's database, whose tables and Optuna's spoil each other, unless the study is in it already.

    Args:
        url: the database's.
        study: that is worked on.
        tracking_uri: MLflow's.

    Raises:
        UserError: it is MLflow's.
        AwayError: its server does not answer.
    """
    if url.get_backend_name() == SQLITE and not (url.database and Path(url.database).is_file()):
        tables, knows_study = set[str](), False  # nor is one made by looking
    else:
        tables, knows_study = _look_into(url, study)
    if not knows_study and (tables >= MLFLOW_TABLES or _place(url) == _place_of(tracking_uri)):
        raise UserError(
            f"storage={without_secrets(str(url))}: it is MLflow's database: expected one of its own (--storage), such "
            f"as sqlite:///studies.db or postgresql://user@host/studies"
        )


def _look_into(url: URL, study: str) -> tuple[set[str], bool]:
    """The tables in a database, and whether Optuna's know a study."""
    arguments = CONNECT_ARGUMENTS.get(url.get_backend_name(), {})
    engine = create_engine(url, connect_args=arguments, poolclass=NullPool)
    raise_when_away(engine)
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        return tables, STUDIES_TABLE in tables and has_study(connection, study)


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
