"""The run that `mlflow run` prepared, ended where no job did so."""

import os

import pytest
from mlflow import MlflowClient

from vjepa_mlflow.tracking import FAILURE_TAG, end_launched_run
from vjepa_mlflow.tracking.joining import JOB_TAG
from vjepa_mlflow.tracking.prepared import keeping_launched_run


def test_a_launched_run_is_marked_from_outside(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    end_launched_run("epochs=0: expected more", "FAILED")
    run = MlflowClient().get_run(run_id)
    assert (run.info.status, run.data.tags[FAILURE_TAG]) == ("FAILED", "epochs=0: expected more")


def test_a_launched_run_is_ended_from_outside_where_it_was_running_and_holds_no_job(
    tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient()
    running, finished, held = (client.create_run("0").info.run_id for _ in range(3))
    client.set_terminated(finished)
    client.set_tag(held, JOB_TAG, "train")
    for run_id in (running, finished, held):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        end_launched_run("interrupted", "KILLED")
    runs = [client.get_run(run_id) for run_id in (running, finished, held)]
    assert [run.info.status for run in runs] == ["KILLED", "FINISHED", "RUNNING"]
    assert [FAILURE_TAG in run.data.tags for run in runs] == [True, False, False]


def test_further_jobs_find_the_run_that_was_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123")
    with keeping_launched_run():
        del os.environ["MLFLOW_RUN_ID"]  # as MLflow does
    assert os.environ["MLFLOW_RUN_ID"] == "0123"
    monkeypatch.delenv("MLFLOW_RUN_ID")
    with keeping_launched_run():
        pass
    assert "MLFLOW_RUN_ID" not in os.environ
