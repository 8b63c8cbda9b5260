"""What an earlier run left, uploaded."""

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking import Job, RunLog, UndeliveredError, delivery, left_log, run_log

JOB = Job.of("train", {"epochs": 5}, {"epochs": 5})


@pytest.fixture
def left(tracking: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that has not got everything."""

    def log_in_vain(log: RunLog) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(delivery, "_WAYS", {})
            log.text("<p>", "report.html")
            log.deliver()

    with pytest.raises(UndeliveredError), run_log(JOB) as log:
        log_in_vain(log)
    return log.folder


def test_what_is_left_goes_to_where_the_run_was_or_to_the_tracking_uri_in_force(
    left: Path, tracking: str, tmp_path: Path
) -> None:
    moved = f"sqlite:///{tmp_path}/moved.db"
    shutil.copy(tracking.removeprefix("sqlite:///"), tmp_path / "moved.db")
    empty = f"sqlite:///{tmp_path}/empty.db"
    mlflow.set_tracking_uri(empty)
    message = f"^tracking URI {empty}: .* on {tracking}: expected .*; the folder stays"
    with pytest.raises(UserError, match=message), left_log(left):
        pass
    mlflow.set_tracking_uri(moved)
    with left_log(left) as log:
        pass
    assert MlflowClient(moved).get_run(log.run_id).info.status == "FINISHED"
    assert MlflowClient(tracking).get_run(log.run_id).info.status == "FAILED"
    assert not left.exists()


def test_without_a_tracking_uri_it_goes_to_the_one_that_was_noted(
    left: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri("")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with left_log(left) as log:
        pass
    assert not mlflow.is_tracking_uri_set()
    assert MlflowClient(tracking).get_run(log.run_id).info.status == "FINISHED"
