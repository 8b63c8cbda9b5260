"""Whose a database is."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from vjepa_mlflow import UserError
from vjepa_mlflow.search import SharedStudy, SweepPlan


def make_tables_of_mlflow(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for name in ("experiments", "runs", "registered_models"):
            connection.execute(text(f"CREATE TABLE {name} (id INTEGER)"))
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_mlflows_database_is_refused_and_left_as_it_was(
    url: str, plan: SweepPlan, kind: str, request: pytest.FixtureRequest
) -> None:
    place = url if kind == "sqlite" else request.getfixturevalue("postgresql")()
    with pytest.raises(UserError, match="it is MLflow's database: expected one of its own"):
        SharedStudy(place, "study", tracking_uri=place)  # before either has tables
    SharedStudy(place, "study").create(plan, {})
    make_tables_of_mlflow(place)
    SharedStudy(place, "study", tracking_uri=place)  # which older versions began
    with pytest.raises(UserError, match="it is MLflow's database"):
        SharedStudy(place, "another", tracking_uri="http://127.0.0.1:5000")


def test_a_file_is_not_made_by_looking(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="MLflow's database"):
        SharedStudy(f"sqlite:///{file}", "study", tracking_uri=f"sqlite:///{tmp_path}/other/../a.db")
    assert not file.exists()
