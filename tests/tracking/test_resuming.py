"""A job that goes on in an earlier run."""

import mlflow
import pytest
from mlflow import MlflowClient

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking import FAILURE_TAG, RESUMED_TAG, Job, resumed_log

JOB = Job.of("train", {"epochs": 5}, {"epochs": 5})


def test_an_earlier_run_is_resumed_and_ended(killed: str) -> None:
    assert FAILURE_TAG in MlflowClient().get_run(killed).data.tags
    with resumed_log(killed, JOB) as log:
        assert log.run_id == mlflow.active_run().info.run_id == killed
        assert MlflowClient().get_run(killed).info.status == "RUNNING"
    assert mlflow.active_run() is None
    run = MlflowClient().get_run(killed)
    assert run.info.status == "FINISHED"
    assert FAILURE_TAG not in run.data.tags


def test_a_launched_run_names_the_one_that_is_resumed(killed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", launched)
    with pytest.raises(RuntimeError), resumed_log(killed, JOB):
        raise RuntimeError("no luck")
    runs = [MlflowClient().get_run(run_id) for run_id in (launched, killed)]
    assert [(run.info.status, run.data.tags[FAILURE_TAG]) for run in runs] == [("FAILED", "no luck")] * 2
    assert runs[0].data.tags[RESUMED_TAG] == killed


def test_an_active_run_stays_its_owners(killed: str) -> None:
    with mlflow.start_run() as owned:
        with resumed_log(killed, JOB):
            pass
        assert mlflow.active_run().info.run_id == owned.info.run_id
    assert MlflowClient().get_run(killed).info.status == "FINISHED"


def test_a_run_that_is_not_there_is_named(tracking: str) -> None:
    with pytest.raises(UserError, match="no run can be started: "), resumed_log("0" * 32, JOB):
        pass
