"""What must hold of each kind of entry, whatever keeps the runs: an SQLite file, PostgreSQL or a tracking server."""

import json
import math
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from helpers import points
from mlflow import MlflowClient
from mlflow.entities import Run

from tools.outages import mlflow_server
from vjepa_mlflow.tracking.answers import Answer, describe, understand
from vjepa_mlflow.tracking.delivery import BATCH, CHECKPOINT, DELETION, FILES, INPUT, TABLE, deliver
from vjepa_mlflow.tracking.outbox import Outbox


@pytest.fixture(scope="module", params=["sqlite once", "sqlite", "postgresql", "server"])
def store(request: pytest.FixtureRequest, module_tracking: Path, empty_store: Path) -> Iterator[int]:
    """Makes one of the back ends the tracking store; says how often each entry is delivered to it."""
    if request.param == "postgresql":
        mlflow.set_tracking_uri(request.getfixturevalue("postgresql")())
        yield 2
    elif request.param == "server":
        shutil.copy(empty_store, module_tracking / "server.db")
        with closing(sqlite3.connect(module_tracking / "server.db")) as database, database:
            database.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0'")  # by way of the server
        with mlflow_server(module_tracking, "sqlite:///server.db") as address:
            mlflow.set_tracking_uri(address)
            yield 2
    else:
        yield 1 if "once" in request.param else 2


@pytest.fixture
def run_id(store: int) -> str:
    return str(MlflowClient().create_run("0").info.run_id)


@pytest.fixture
def box(store: int, run_id: str, tmp_path: Path) -> Iterator[Outbox]:
    """Delivers each entry twice, but for one back end: an answer was lost, or a process killed before it was gone."""

    def deliver_times(entry: Path) -> None:
        for _ in range(store):
            deliver(run_id, entry)

    (tmp_path / "box").mkdir()
    with Outbox(tmp_path / "box", run_id, deliver_times) as box:
        yield box


def get(run_id: str) -> Run:
    return MlflowClient().get_run(run_id)


def metric(value: float, step: int, name: str = "val_loss") -> dict[str, Any]:
    about = {"timestamp": step, "model_id": None, "dataset_name": None, "dataset_digest": None}
    return {"key": name, "value": value, "step": step, **about}


def artifacts(run_id: str, folder: str = "") -> list[str]:
    return sorted(artifact.path for artifact in MlflowClient().list_artifacts(run_id, folder or None))


def content(run_id: str, name: str) -> str:
    return mlflow.artifacts.load_text(f"runs:/{run_id}/{name}")


def test_params_metrics_and_tags_are_there_once(box: Outbox, run_id: str) -> None:
    values = {"metrics": [metric(0.5, 1)], "params": {"epochs": "5"}, "tags": {"kind": "training, 訓練"}}
    box.put(BATCH, values)
    assert box.flush() is None
    run = get(run_id)
    assert points(run_id) == {"val_loss": [(1, 0.5)]}
    assert (run.data.params, run.data.tags["kind"]) == ({"epochs": "5"}, "training, 訓練")


def test_a_loss_that_is_no_number_is_a_point_as_others(box: Outbox, run_id: str) -> None:
    box.put(BATCH, {"metrics": [metric(math.nan, 1), metric(0.5, 2)]})
    assert box.flush() is None
    assert [(step, math.isnan(value)) for step, value in points(run_id)["val_loss"]] == [(1, True), (2, False)]


def test_what_is_logged_later_is_there_in_the_end(box: Outbox, run_id: str) -> None:
    for number in range(5):
        box.put(BATCH, {"metrics": [metric(float(number), number)], "tags": {"last": str(number)}})
        box.put(FILES, {"name": "report.html"}, str(number).encode())
    assert box.flush() is None
    history = MlflowClient().get_metric_history(run_id, "val_loss")
    assert [(point.step, point.value) for point in history] == [(number, float(number)) for number in range(5)]
    assert (get(run_id).data.tags["last"], content(run_id, "report.html")) == ("4", "4")


def test_params_that_are_there_stay_and_the_rest_of_their_entry_arrives(box: Outbox, run_id: str) -> None:
    MlflowClient().log_param(run_id, "learning_rate", "0.00001")
    params = {"learning_rate": "1e-05", "epochs": "5"}
    box.put(BATCH, {"metrics": [metric(0.5, 1)], "params": params, "tags": {"kind": "training"}})
    assert box.flush() is None
    run = get(run_id)
    assert run.data.params == {"learning_rate": "0.00001", "epochs": "5"}
    assert (points(run_id), run.data.tags["kind"]) == ({"val_loss": [(1, 0.5)]}, "training")


def test_a_dataset_is_one_input_with_its_context(box: Outbox, run_id: str) -> None:
    dataset = mlflow.data.from_pandas(pd.DataFrame({"name": ["a"]})).to_dict()
    box.put(INPUT, {"dataset": dataset, "context": "train"})
    assert box.flush() is None
    (used,) = get(run_id).inputs.dataset_inputs
    assert json.loads(used.dataset.profile)["num_rows"] == 1
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "train")]


def test_files_and_folders_are_artifacts_of_their_names(box: Outbox, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "a").write_text("a")
    box.put(FILES, {"name": "report.html"}, b"<p>")
    box.put(FILES, {"name": "tensorboard/events"}, tmp_path / "events")
    assert box.flush() is None
    assert (artifacts(run_id), content(run_id, "report.html")) == (["report.html", "tensorboard"], "<p>")
    assert content(run_id, "tensorboard/events/a") == "a"


def test_a_file_that_replaces_is_the_only_one_in_its_folder(box: Outbox, run_id: str) -> None:
    for name in ("events-1", "events-2"):
        box.put(FILES, {"name": f"tensorboard/{name}", "replace": True}, name.encode())
    assert box.flush() is None
    assert artifacts(run_id, "tensorboard") == ["tensorboard/events-2"]


def test_a_table_is_shown_as_one_and_is_not_added_to(box: Outbox, run_id: str) -> None:
    for rows in (3, 2):
        frame = pd.DataFrame({"row": range(rows)}).to_json(orient="split").encode()
        box.put(TABLE, {"name": "rows.json"}, frame)
    assert box.flush() is None
    assert mlflow.load_table("rows.json", run_ids=[run_id])["row"].tolist() == [0, 1]
    assert json.loads(get(run_id).data.tags["mlflow.loggedArtifacts"]) == [{"path": "rows.json", "type": "table"}]


def test_a_checkpoint_takes_the_place_of_the_one_before(box: Outbox, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "state-2").write_text("newer")
    box.put(CHECKPOINT, {"name": "checkpoint/state-1"}, b"older")
    box.put(CHECKPOINT, {"name": "checkpoint/state-2"}, tmp_path / "state-2")
    assert box.flush() is None
    assert artifacts(run_id, "checkpoint") == ["checkpoint/state-2"]
    assert content(run_id, "checkpoint/state-2") == "newer"


def test_what_is_deleted_is_gone_also_where_it_never_was(box: Outbox, run_id: str) -> None:
    box.put(FILES, {"name": "report.html"}, b"<p>")
    box.put(CHECKPOINT, {"name": "checkpoint/state-1"}, b"state")
    for name in ("checkpoint", "never"):
        box.put(DELETION, {"name": name})
    assert box.flush() is None
    assert artifacts(run_id) == ["report.html"]


def test_a_deleted_run_is_a_refusal_and_no_wait_and_gets_all_once_it_is_restored(box: Outbox, run_id: str) -> None:
    MlflowClient().delete_run(run_id)
    box.put(BATCH, {"params": {"epochs": "5"}})
    box.put(BATCH, {"tags": {"kind": "training"}})
    error = box.flush()
    assert error is not None
    assert understand(error) is Answer.REFUSAL
    assert not box.is_blocked
    assert describe(error, run_id) == f"run {run_id} was deleted; mlflow runs restore --run-id {run_id}"
    MlflowClient().restore_run(run_id)
    assert box.flush() is None
    run = get(run_id)
    assert (run.data.params, run.data.tags["kind"]) == ({"epochs": "5"}, "training")


def test_what_is_refused_keeps_nothing_else_back(box: Outbox, run_id: str) -> None:
    box.put(BATCH, {"tags": {"": "no name"}})
    box.put(BATCH, {"tags": {"kind": "training"}})
    error = box.flush()
    assert error is not None
    assert understand(error) is Answer.REFUSAL
    assert get(run_id).data.tags["kind"] == "training"
    box.discard(BATCH)
    assert box.flush() is None
