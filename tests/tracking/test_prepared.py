"""The run that `mlflow run` prepared, ended where no job did so."""

import pytest
from mlflow import MlflowClient

from vjepa_mlflow.tracking import FAILURE_TAG, end_launched_run


def test_a_launched_run_is_marked_from_outside(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    end_launched_run("epochs=0: expected more", "FAILED")
    run = MlflowClient().get_run(run_id)
    assert (run.info.status, run.data.tags[FAILURE_TAG]) == ("FAILED", "epochs=0: expected more")
