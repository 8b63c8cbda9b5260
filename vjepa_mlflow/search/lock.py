"""One process at a time, where a database offers that."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text


@contextmanager
def one_at_a_time(engine: Engine, name: str) -> Iterator[None]:
    """Waits until no other process is in such a block of the same name; one that dies in it leaves it.

    Args:
        engine: of PostgreSQL, or of SQLite, which gets a lock file beside it. With others nobody waits.
        name: of what is done in the block.
    """
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})
            yield
    elif engine.dialect.name == "sqlite":
        with Path(f"{engine.url.database}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    else:
        yield
