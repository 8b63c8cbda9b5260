"""A run for a job: started or joined, and ended as the job went."""

import mlflow
import pytest
from mlflow import MlflowClient

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking import FAILURE_TAG, Job, run_log

JOB = Job.of("train", {"epochs": 5}, {"epochs": 5})


def test_a_run_that_was_started_is_ended(tracking: str) -> None:
    with run_log(JOB) as log:
        assert mlflow.active_run().info.run_id == log.run_id
    assert mlflow.active_run() is None
    assert MlflowClient().get_run(log.run_id).info.status == "FINISHED"


def test_a_run_that_was_joined_goes_on(tracking: str) -> None:
    with mlflow.start_run() as run:
        with run_log(JOB) as log:
            log.metrics({"x": 1.0}, step=1)
        assert log.run_id == run.info.run_id
        assert mlflow.active_run() is not None
        assert MlflowClient().get_run(log.run_id).info.status == "RUNNING"


def test_the_run_of_mlflow_run_is_resumed(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with run_log(JOB) as log:
        pass
    assert log.run_id == run_id
    assert MlflowClient().get_run(run_id).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("error", "status", "tag"),
    [
        (UserError("data=x: no such folder"), "FAILED", "data=x: no such folder"),
        (RuntimeError("first line\nsecond line"), "FAILED", "first line"),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt"),
    ],
)
def test_a_run_that_fails_says_why(tracking: str, error: BaseException, status: str, tag: str) -> None:
    with pytest.raises(type(error)), run_log(JOB) as log:
        raise error
    run = MlflowClient().get_run(log.run_id)
    assert run.info.status == status
    assert run.data.tags[FAILURE_TAG] == tag


def test_parameters_that_the_run_has_are_left_alone(tracking: str) -> None:
    with mlflow.start_run(), run_log(JOB) as log:
        mlflow.log_param("learning_rate", "0.00001")
        log.params({"learning_rate": 1e-5, "epochs": 5})
    assert {
        name: value for name, value in MlflowClient().get_run(log.run_id).data.params.items() if "v" not in name
    } == {
        "learning_rate": "0.00001",
        "epochs": "5",
    }


def test_a_server_that_is_not_there_is_named(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"tracking URI http://127\.0\.0\.1:1: it does not answer"), run_log(JOB):
        pass
