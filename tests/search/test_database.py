from pathlib import Path

import pytest
from helpers import free_port
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from vjepa_mlflow.runtime.patience import AwayError
from vjepa_mlflow.search.database import file_identity, make_transactions_exclusive, raise_when_away


def test_a_server_that_nobody_runs_is_away() -> None:
    engine = create_engine(f"postgresql+psycopg://127.0.0.1:{free_port()}/studies")
    with pytest.raises(OperationalError):
        engine.connect()
    raise_when_away(engine)
    with pytest.raises(AwayError):
        engine.connect()


def test_a_database_that_does_not_open_is_not_away(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/no/folder/a.db")
    raise_when_away(engine)
    with pytest.raises(OperationalError):
        engine.connect()


def test_a_transaction_that_only_reads_keeps_others_out(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/a.db", connect_args={"timeout": 0})
    with engine.begin() as first, engine.begin() as second:  # as SQLite has it by itself
        assert [each.execute(text("SELECT 1")).scalar() for each in (first, second)] == [1, 1]
    make_transactions_exclusive(engine)
    with engine.begin() as first:
        first.execute(text("SELECT 1"))
        with pytest.raises(OperationalError, match="locked"):
            engine.connect().execute(text("SELECT 1"))


def test_a_file_that_is_replaced_is_another(tmp_path: Path) -> None:
    file, url = tmp_path / "a.db", make_url(f"sqlite:///{tmp_path}/a.db")
    assert file_identity(url) is None
    file.write_text("one")
    before = file_identity(url)
    file.write_text("changed")
    assert file_identity(url) == before
    (tmp_path / "b.db").write_text("another")
    (tmp_path / "b.db").replace(file)
    assert file_identity(url) != before
