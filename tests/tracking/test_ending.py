"""How runs end, by the errors of their jobs."""

import os

import pytest
from mlflow import MlflowClient

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking.ending import FAILURE_TAG, briefly, has_ended, remove_failure, status_of, terminate
from vjepa_mlflow.tracking.undelivered import UndeliveredError, UndeliveredPartError


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (None, "FINISHED"),
        (UndeliveredError("away"), "FINISHED"),
        (UndeliveredPartError("away"), "FAILED"),
        (UserError("data=x: no such folder"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(), "FAILED"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_status_of_a_run_follows_from_the_error_of_its_job(failure: BaseException | None, status: str) -> None:
    assert status_of(failure) == status
    assert has_ended(failure) is (status == "FINISHED")


def test_mlflow_asks_once_and_for_seconds_where_somebody_is_about_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
    monkeypatch.setenv(names[0], "7")
    monkeypatch.delenv(names[1], raising=False)
    with briefly():
        assert [os.environ[name] for name in names] == ["0", "5"]
    assert [os.environ.get(name) for name in names] == ["7", None]


def test_a_run_is_ended_at_a_time_and_its_failure_removed(tracking: str) -> None:
    client = MlflowClient()
    run_id = client.create_run("0", tags={FAILURE_TAG: "no luck"}).info.run_id
    terminate(run_id, "KILLED", 1234)
    for _ in range(2):  # also where there is none
        remove_failure(client.get_run(run_id))
    run = client.get_run(run_id)
    assert (run.info.status, run.info.end_time, FAILURE_TAG in run.data.tags) == ("KILLED", 1234, False)
