"""Whose run it is: what becomes of a run that is joined, and of the jobs after the first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
import pytest
from helpers import points
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from tools.kills import die, is_killed
from vjepa_mlflow import UserError
from vjepa_mlflow.tracking import FAILURE_TAG, RESUMED_TAG, Job, resumed_log, run_log
from vjepa_mlflow.tracking.joining import JOB_TAG, STATUS_TAG

TRAIN = Job.of("train", {"epochs": 5}, {"epochs": 5})
EVALUATE = Job.of("evaluate", {"split": "test"}, {"split": "test"})
SWEEP = Job("sweep", "0123", "plan.yaml", "trials: 3")


@pytest.fixture(params=["active", "launched"])
def inside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Has a block run inside a run: with `mlflow.start_run`, or with `MLFLOW_RUN_ID` as `mlflow run` does."""

    @contextmanager
    def launched(run_id: str) -> Iterator[None]:
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        yield
        monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)

    return launched if request.param == "launched" else mlflow.start_run


def get(run_id: str) -> Run:
    return MlflowClient().get_run(run_id)


def do(job: Job, value: float) -> str:
    with run_log(job) as log:
        log.params({"value": value})
        log.metrics({"loss": value}, step=1)
        log.text(str(value), "report.html")
    return log.run_id


def report(run_id: str) -> str:
    return mlflow.artifacts.load_text(f"runs:/{run_id}/report.html")


@pytest.mark.parametrize(
    ("first", "second"),
    [(TRAIN, TRAIN), (TRAIN, EVALUATE), (EVALUATE, SWEEP), (SWEEP, SWEEP), (SWEEP, TRAIN)],
    ids=lambda job: job.name,
)
def test_the_first_job_in_a_run_is_logged_to_it_and_each_further_one_is_nested_and_says_so(
    tracking: str, inside: Callable, first: Job, second: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    owned = MlflowClient().create_run("0", run_name="mine", tags={"mlflow.note.content": "my words"}).info.run_id
    with inside(owned):
        assert do(first, 1.0) == owned
    with inside(owned):
        nested_runs = [do(second, value) for value in (2.0, 3.0)]
    warnings = capsys.readouterr().err
    for value, nested in zip((2.0, 3.0), nested_runs, strict=True):
        run = get(nested)
        assert (run.data.tags["mlflow.parentRunId"], run.info.status) == (owned, "FINISHED")
        assert f"Run {owned} holds its {first.name}: this {second.name} is run {nested}, nested in it" in warnings
        assert (run.data.params["value"], report(nested), points(nested)) == (
            str(value),
            str(value),
            {"loss": [(1, value)]},
        )
    run = get(owned)
    assert (run.info.run_name, run.data.tags["mlflow.note.content"]) == ("mine", "my words")
    assert (run.data.params["value"], report(owned), points(owned)) == ("1.0", "1.0", {"loss": [(1, 1.0)]})
    assert (run.data.tags[JOB_TAG], run.info.status) == (first.name, "FINISHED")


def test_a_job_that_fails_in_a_run_marks_it_and_the_next_one_is_nested(tracking: str, inside: Callable) -> None:
    owned = MlflowClient().create_run("0").info.run_id
    with inside(owned):
        with pytest.raises(UserError), run_log(TRAIN):
            raise UserError("data=x: no such folder")
        assert get(owned).data.tags[FAILURE_TAG] == "data=x: no such folder"
        assert do(TRAIN, 1.0) != owned
    assert "value" not in get(owned).data.params


def kill_during(job: Job, inside: Callable, run_id: str) -> None:
    """Has a process begin a job in a run and be killed."""

    def begin() -> None:
        with inside(run_id), run_log(job) as log:
            log.metrics({"loss": 9.0}, step=1)
            log.deliver()
            die()

    assert is_killed(begin, 0, lambda _: False)


def test_a_job_that_was_killed_is_taken_up_again_in_its_run_and_another_one_is_not(
    tracking: str, inside: Callable
) -> None:
    owned = MlflowClient().create_run("0").info.run_id
    kill_during(TRAIN, inside, owned)
    with inside(owned):
        assert do(EVALUATE, 1.0) != owned
    with inside(owned), run_log(TRAIN) as log:
        assert log.continued
        log.metrics({"loss": 1.0, "accuracy": 2.0}, step=1)
    assert log.run_id == owned
    assert points(owned) == {"loss": [(1, 9.0)], "accuracy": [(1, 2.0)]}  # what MLflow has is not logged again
    with inside(owned):
        assert do(TRAIN, 1.0) != owned


def test_a_run_that_is_resumed_is_no_further_job(tracking: str, inside: Callable) -> None:
    owned = MlflowClient().create_run("0").info.run_id
    with inside(owned), pytest.raises(KeyboardInterrupt), run_log(TRAIN):
        raise KeyboardInterrupt
    before = get(owned).info.status
    with inside(owned), resumed_log(owned, TRAIN) as log:
        assert log.run_id == owned
        assert log.continued
    assert FAILURE_TAG not in get(owned).data.tags
    assert (before, get(owned).info.status) in (("KILLED", "FINISHED"), ("FINISHED", "FINISHED"))  # launched; active
    assert get(owned).data.tags.get(STATUS_TAG) in (None, "FINISHED")


def test_a_run_that_holds_a_job_names_the_one_that_is_resumed_and_keeps_its_end(
    tracking: str, inside: Callable
) -> None:
    with pytest.raises(KeyboardInterrupt), run_log(TRAIN) as stopped:
        raise KeyboardInterrupt
    owned = MlflowClient().create_run("0").info.run_id
    with inside(owned):
        do(EVALUATE, 1.0)
    with inside(owned), suppress(RuntimeError), resumed_log(stopped.run_id, TRAIN):
        raise RuntimeError("no luck")
    assert get(stopped.run_id).info.status == "FAILED"
    assert (get(owned).data.tags[RESUMED_TAG], get(owned).info.status) == (stopped.run_id, "FINISHED")
    assert FAILURE_TAG not in get(owned).data.tags


def test_a_run_of_an_older_version_holds_a_job(tracking: str, inside: Callable) -> None:
    owned = MlflowClient().create_run("0").info.run_id
    MlflowClient().log_param(owned, "version_vjepa_mlflow", "0.1")
    with inside(owned):
        assert do(TRAIN, 1.0) != owned


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_launched_run_that_had_ended_keeps_its_end(
    tracking: str, monkeypatch: pytest.MonkeyPatch, status: str, fails: bool
) -> None:
    owned = MlflowClient().create_run("0").info.run_id
    MlflowClient().set_terminated(owned, status, 1234)
    monkeypatch.setenv("MLFLOW_RUN_ID", owned)
    with suppress(UserError), run_log(TRAIN) as log:
        assert log.run_id == owned
        if fails:
            raise UserError("data=x: no such folder")
    info = get(owned).info
    assert (info.status, info.end_time) == (status, 1234)
    assert get(owned).data.tags[STATUS_TAG] == ("FAILED" if fails else "FINISHED")


def test_a_launched_run_that_is_not_there_is_named(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted = MlflowClient().create_run("0").info.run_id
    MlflowClient().delete_run(deleted)
    for run_id in (deleted, "0" * 32):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        with pytest.raises(UserError, match=f"MLFLOW_RUN_ID={run_id}: .*expected a run that is there"), run_log(TRAIN):
            pass


def test_the_runs_own_record_of_the_job_is_there_before_the_job_begins(tracking: str) -> None:
    with run_log(TRAIN) as log:
        assert mlflow.artifacts.load_text(f"runs:/{log.run_id}/recipe.yaml") == "epochs: 5\n"


def test_a_store_of_artifacts_that_cannot_be_used_is_told_before_the_job_begins(tracking: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    experiment = mlflow.create_experiment("elsewhere", artifact_location=f"{tmp_path}/file/artifacts")
    mlflow.set_experiment(experiment_id=experiment)
    try:
        message = f"artifact store .*{tmp_path}/file/.*expected one that recipe.yaml can be written to"
        with pytest.raises(UserError, match=message), run_log(TRAIN):
            pytest.fail("it has begun")
        (run,) = mlflow.search_runs(output_format="list")
        assert (run.info.status, "artifact store" in run.data.tags[FAILURE_TAG]) == ("FAILED", True)
    finally:
        mlflow.set_experiment(experiment_id="0")


def test_a_run_that_names_the_one_that_is_resumed_is_still_free(tracking: str) -> None:
    with pytest.raises(KeyboardInterrupt), run_log(TRAIN) as stopped:
        raise KeyboardInterrupt
    with mlflow.start_run() as run:
        with resumed_log(stopped.run_id, TRAIN):
            pass
        assert do(EVALUATE, 1.0) == run.info.run_id


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MlflowException("away")], ids=["interrupted", "failed"])
def test_a_run_is_ended_as_it_went_also_while_it_is_only_being_joined(
    tracking: str, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    owned = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", owned)

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail)
        with pytest.raises(type(error)), run_log(TRAIN):
            pytest.fail("it has begun")
    assert mlflow.active_run() is None
    assert get(owned).info.status == ("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")


def test_a_store_that_fails_at_the_start_leaves_an_owners_run_free(tracking: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    experiment = mlflow.create_experiment("elsewhere", artifact_location=f"{tmp_path}/file/artifacts")
    with mlflow.start_run(experiment_id=experiment) as run, suppress(UserError), run_log(TRAIN):
        pytest.fail("it has begun")
    assert JOB_TAG not in get(run.info.run_id).data.tags


def test_a_job_of_somebody_elses_run_goes_on_there_and_leaves_its_end_alone(tracking: str) -> None:
    with mlflow.start_run() as run, pytest.raises(KeyboardInterrupt), run_log(TRAIN):
        raise KeyboardInterrupt
    before = get(run.info.run_id).info
    with pytest.raises(UserError), resumed_log(run.info.run_id, TRAIN):
        raise UserError("again")
    after = get(run.info.run_id)
    assert (before.status, before.end_time) == (after.info.status, after.info.end_time)
    assert after.data.tags[STATUS_TAG] == "FAILED"
