"""What writes to a run: what becomes of the run where not all of it can be delivered."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import pytest
from mlflow import MlflowClient

from vjepa_mlflow.tracking import FAILURE_TAG, RunLog, UndeliveredError, lifecycle
from vjepa_mlflow.tracking.lifecycle import open_log
from vjepa_mlflow.tracking.outbox_folder import End, read_end
from vjepa_mlflow.tracking.undelivered import DamagedError


@pytest.fixture
def run_id(tracking: str) -> Iterator[str]:
    with mlflow.start_run() as run:
        yield run.info.run_id


@contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object) -> None:
        raise ValueError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "deliver", refuse)
        yield


def test_a_run_that_has_not_got_everything_fails_until_it_is_uploaded(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        refusing(monkeypatch),
        pytest.raises(UndeliveredError, match=r"it has not taken all of the run .*vjepa-mlflow upload"),
        open_log(run_id, owned=True) as log,
    ):
        log.text("<p>", "report.html")
    run = MlflowClient().get_run(run_id)
    assert (run.info.status, run.data.tags[FAILURE_TAG], mlflow.active_run()) == ("FAILED", "no room", None)
    end = read_end(log.folder)
    assert end == End("FINISHED", end.end_time if end else 0)


def test_a_run_of_somebody_elses_is_not_ended_and_leaves_no_end(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing(monkeypatch), pytest.raises(UndeliveredError), open_log(run_id) as log:
        log.text("<p>", "report.html")
    assert MlflowClient().get_run(run_id).info.status == "RUNNING"
    assert read_end(log.folder) is None


def test_the_error_of_a_job_is_worth_more_than_what_was_not_delivered(
    run_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with refusing(monkeypatch), pytest.raises(ZeroDivisionError), open_log(run_id, owned=True) as log:
        raise ZeroDivisionError
    assert "it has not taken all of the run" in capsys.readouterr().err
    end = read_end(log.folder)
    assert end is not None
    assert end.status == "FAILED"


def test_what_is_damaged_is_an_error_in_the_end_and_all_else_is_delivered(run_id: str) -> None:
    def leave_damaged(log: RunLog) -> None:
        damaged = log.folder / "1-batch"
        damaged.mkdir()  # without what makes it an entry
        with log._outbox._changed:
            log._outbox._waiting.appendleft(damaged)
        log.text("<p>", "report.html")

    message = r"1-batch/entry\.json: is missing: what is damaged cannot"
    with pytest.raises(DamagedError, match=message), open_log(run_id) as log:
        leave_damaged(log)
    assert [artifact.path for artifact in MlflowClient().list_artifacts(run_id)] == ["report.html", "tensorboard"]


def test_a_run_that_cannot_be_opened_is_ended(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(lifecycle, "RunLog", fail)
    monkeypatch.setattr(lifecycle, "_points", fail)
    with pytest.raises(RuntimeError), open_log(run_id, owned=True, continued=True):
        pytest.fail("it has begun")
    run = MlflowClient().get_run(run_id)
    assert (run.info.status, run.data.tags[FAILURE_TAG], mlflow.active_run()) == ("FAILED", "no luck", None)
