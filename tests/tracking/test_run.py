import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Barrier

import mlflow
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from torch.utils.tensorboard import summary

from vjepa_mlflow import UserError
from vjepa_mlflow.evaluation.figures import draw
from vjepa_mlflow.tracking import (
    FAILURE_TAG,
    RESUMED_TAG,
    Job,
    RunLog,
    UndeliveredError,
    delivery,
    end_launched_run,
    left_log,
    resumed_log,
    run_log,
)
from vjepa_mlflow.tracking.events import Events
from vjepa_mlflow.tracking.outbox import open_outbox
from vjepa_mlflow.tracking.outbox_folder import read_address
from vjepa_mlflow.tracking.run import open_log
from vjepa_mlflow.tracking.unfinished import check_unfinished

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


@pytest.mark.parametrize(
    ("switch", "within", "asked"),
    [(None, False, True), ("false", False, False), ("1", True, True), (None, True, False)],
)
def test_system_metrics_are_the_users_to_switch(
    tracking: str, monkeypatch: pytest.MonkeyPatch, switch: str | None, within: bool, asked: bool
) -> None:
    if switch is not None:
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", switch)
    seen = []
    start = mlflow.start_run
    with start(log_system_metrics=False) if within else nullcontext():
        monkeypatch.setattr(
            mlflow, "start_run", lambda log_system_metrics, **given: seen.append(log_system_metrics) or start(**given)
        )
        for job in [JOB] * (1 + within):  # the first one joins a run of the user's, and starts none
            with run_log(job):
                pass
    assert seen == [asked]


def test_a_switch_that_mlflow_does_not_read_is_named(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "off")
    with pytest.raises(UserError, match=r"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING value .* but got off"), run_log(JOB):
        pass


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


def test_a_launched_run_is_marked_from_outside(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    end_launched_run("epochs=0: expected more", "FAILED")
    run = MlflowClient().get_run(run_id)
    assert (run.info.status, run.data.tags[FAILURE_TAG]) == ("FAILED", "epochs=0: expected more")


def test_a_server_that_is_not_there_is_named(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"tracking URI http://127\.0\.0\.1:1: it does not answer"), run_log(JOB):
        pass


@pytest.fixture
def killed(tracking: str) -> str:
    with pytest.raises(KeyboardInterrupt), run_log(JOB) as log:
        raise KeyboardInterrupt
    return log.run_id


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


def test_two_runs_log_the_same_data_set_for_the_first_time_at_once(tracking: str) -> None:
    """MLflow's own `log_input` fails in this test within a few data sets."""
    at_once = Barrier(2)

    def log(_: int) -> str:
        with mlflow.start_run() as run, open_log(run.info.run_id) as log:
            for number in range(20):
                at_once.wait(timeout=10)
                log.input(mlflow.data.from_pandas(pd.DataFrame({"name": [str(number)]})), context="train")
        return run.info.run_id

    with ThreadPoolExecutor(2) as threads:
        for run_id in threads.map(log, range(2)):
            assert len(MlflowClient().get_run(run_id).inputs.dataset_inputs) == 20


def test_a_table_is_replaced_and_not_added_to(tracking: str) -> None:
    with run_log(JOB) as log:
        for rows in (3, 2):
            log.data_frame(pd.DataFrame({"row": range(rows)}), "rows.json")
    table = mlflow.load_table("rows.json", run_ids=[log.run_id])
    assert table["row"].tolist() == [0, 1]
    assert "rows.json" in MlflowClient().get_run(log.run_id).data.tags["mlflow.loggedArtifacts"]


def test_tensorboard_has_figures_and_parameters(tracking: str, tmp_path: Path) -> None:
    png = draw(Figure(figsize=(2, 1), dpi=50))
    with run_log(JOB) as log:
        log.params({"epochs": 5})
        log.png(png, "empty.png", step=3)
    folder = Path(mlflow.artifacts.download_artifacts(run_id=log.run_id, dst_path=str(tmp_path)))
    assert (folder / "empty.png").read_bytes() == png
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    (image,) = events.Images("empty")
    assert (image.step, image.width, image.height) == (3, 100, 50)
    (text,) = events.Tensors("params/text_summary")
    assert b"| epochs | 5 |" in text.tensor_proto.string_val[0]


def test_events_are_those_of_pytorchs_writer(tmp_path: Path) -> None:
    events = Events()
    events.add_scalar("loss", 0.1, 3)
    events.add_text("params", "| a | b |")
    (tmp_path / events.name).write_bytes(events.content())
    loaded = list(RawEventFileLoader(str(tmp_path / events.name)).Load())
    found = [Event.FromString(record) for record in loaded]
    assert [event.summary for event in found[1:]] == [
        summary.scalar("loss", 0.1),
        summary.text("params", "| a | b |"),
    ]
    assert [event.step for event in found] == [0, 3, 0]


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
    told = f"^tracking URI {empty}: .* on {tracking}: expected .*; the folder stays"
    with pytest.raises(UserError, match=told), left_log(left):
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


def test_no_password_is_noted_and_nobody_else_may_read(tracking: str) -> None:
    mlflow.set_tracking_uri("http://ann:hunter2@server:5000")
    with open_outbox("0123", print) as box:
        assert read_address(box.folder).tracking_uri == "http://server:5000"
        assert box.folder.stat().st_mode & 0o077 == 0


def test_a_run_that_was_deleted_is_said_to_be_where_it_is_to_go_on(killed: str) -> None:
    MlflowClient().delete_run(killed)
    with pytest.raises(UserError, match=f"resume={killed}: run {killed} was deleted; mlflow runs restore"):
        check_unfinished(killed, {})
