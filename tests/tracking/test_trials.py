from contextlib import ExitStack

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking import (
    FAILURE_TAG,
    STATE_TAG,
    TRIAL_TAG,
    DeletedRunError,
    Job,
    UndeliveredError,
    end_left_runs,
    end_trial_run,
    leave_trial_run,
    lifecycle,
    run_log,
    study_params,
    trial_log,
    trial_run_id,
)


def children(parent: str) -> list[Run]:
    runs = mlflow.search_runs(output_format="list", filter_string=f"tags.`mlflow.parentRunId` = '{parent}'")
    return sorted(runs, key=lambda run: int(run.data.tags[TRIAL_TAG]))


@pytest.mark.parametrize(
    ("state", "status"),
    [("COMPLETE", "FINISHED"), ("PRUNED", "KILLED"), ("FAIL", "FAILED"), ("INTERRUPTED", "KILLED")],
)
def test_a_trial_has_a_nested_run_that_ends_as_it_does(tracking: str, state: str, status: str) -> None:
    with run_log(Job.of("sweep", {}, {})) as parent, trial_log(parent.run_id, 7) as log:
        log.metrics({"val_loss": 1.0}, step=1)
        assert MlflowClient().get_run(log.run_id).info.status == "RUNNING"
        end_trial_run(log.run_id, state)
    (run,) = children(parent.run_id)
    assert (run.info.run_name, run.info.status, run.data.tags[STATE_TAG]) == ("trial 7", status, state)
    assert trial_run_id(parent.run_id, 7) == log.run_id
    assert run.data.tags["mlflow.source.name"]
    assert mlflow.active_run() is None


def test_a_trial_that_is_taken_up_again_has_the_same_run(tracking: str) -> None:
    with run_log(Job.of("sweep", {}, {})) as parent:
        for attempt in (1, 2):
            with trial_log(parent.run_id, 3) as log:
                assert MlflowClient().get_run(log.run_id).info.status == "RUNNING"
                for step in range(1, attempt + 1):
                    log.metrics({"val_loss": float(attempt)}, step=step)
            end_trial_run(log.run_id, "INTERRUPTED")
    (run,) = children(parent.run_id)
    points = MlflowClient().get_metric_history(run.info.run_id, "val_loss")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 2.0)]


def test_a_trial_that_the_server_has_not_got_stops_its_sweep_as_a_failure(tracking: str) -> None:
    with (
        pytest.raises(UserError, match="trial 3: it does not answer, or the sweep's own command, which goes on"),
        run_log(Job.of("sweep", {}, {})) as parent,
        trial_log(parent.run_id, 3),
    ):
        raise UndeliveredError("it does not answer")
    run = MlflowClient().get_run(parent.run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags[FAILURE_TAG].startswith("trial 3: ")


def test_a_trial_that_went_on_has_not_failed_though_its_failure_was_delivered_late(
    tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall_silent(*_: object) -> None:
        raise ConnectionError

    with run_log(Job.of("sweep", {}, {})) as parent:
        with monkeypatch.context() as patch:
            patch.setattr(lifecycle, "deliver", fall_silent)
            with pytest.raises(ZeroDivisionError), trial_log(parent.run_id, 0):
                raise ZeroDivisionError
        with trial_log(parent.run_id, 0):
            pass
        assert FAILURE_TAG not in children(parent.run_id)[0].data.tags
        with pytest.raises(ZeroDivisionError), trial_log(parent.run_id, 1) as log:
            raise ZeroDivisionError
        leave_trial_run(log.run_id)
        assert FAILURE_TAG in children(parent.run_id)[1].data.tags
        end_left_runs(parent.run_id, {0: ("COMPLETE", ""), 1: ("COMPLETE", "")})
    for run in children(parent.run_id):
        assert (run.info.status, FAILURE_TAG in run.data.tags) == ("FINISHED", False)


def test_runs_that_were_left_running_are_ended_as_their_trials_did(tracking: str) -> None:
    with run_log(Job.of("sweep", {}, {})) as parent:
        for number in range(5):
            with trial_log(parent.run_id, number) as log:
                pass
        end_trial_run(log.run_id, "INTERRUPTED")
        states = {0: "COMPLETE", 1: "RUNNING", 2: "INTERRUPTED", 4: "FAIL"}
        end_left_runs(parent.run_id, {number: (state, state.lower()) for number, state in states.items()})
    runs = children(parent.run_id)
    assert [(run.info.status, run.data.tags.get(STATE_TAG)) for run in runs] == [
        ("FINISHED", "COMPLETE"),
        ("RUNNING", None),
        ("KILLED", "INTERRUPTED"),
        ("RUNNING", None),
        ("FAILED", "FAIL"),  # it had been given back, and then its process died too often
    ]
    assert runs[4].data.tags[FAILURE_TAG] == "fail"


def test_deleted_runs_are_told_of(tracking: str, capsys: pytest.CaptureFixture[str]) -> None:
    client = MlflowClient()
    with run_log(Job.of("sweep", {}, {})) as parent:
        opened = ExitStack()
        log = opened.enter_context(trial_log(parent.run_id, 1))
        client.delete_run(log.run_id)
        log.metrics({"val_loss": 1.0}, step=1)
        with pytest.raises(DeletedRunError, match=r"trial 1: run .* was deleted"):
            opened.close()
        end_trial_run(log.run_id, "COMPLETE")
        assert f"run {log.run_id} was deleted" in capsys.readouterr().err
        back = f"trial 1 was deleted: expected it back: mlflow runs restore --run-id {log.run_id}"
        with pytest.raises(UserError, match=back):
            trial_run_id(parent.run_id, 1)
        with trial_log(parent.run_id, 1) as again:
            assert again.run_id != log.run_id
    assert study_params(parent.run_id, "study")
    client.delete_run(parent.run_id)
    with pytest.raises(UserError, match=rf"study=study: .*mlflow runs restore --run-id {parent.run_id}: expected"):
        study_params(parent.run_id, "study")
    with pytest.raises(UserError, match=r"study=study: its run a+ is not on tracking URI .*: expected the tracking"):
        study_params("a" * 32, "study")
