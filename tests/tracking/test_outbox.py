"""The outbox by itself, with a delivery that fails on command; and each kind of entry, delivered again and again."""

import io
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import requests
from helpers import flip, points, put_pipe, wait_until
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking import outbox as module
from vjepa_mlflow.tracking import outbox_folder
from vjepa_mlflow.tracking.delivery import BATCH, CHECKPOINT, DELETION, FILES, INPUT, TABLE, deliver
from vjepa_mlflow.tracking.entries import read_entry
from vjepa_mlflow.tracking.outbox import Outbox, open_outbox
from vjepa_mlflow.tracking.outbox_folder import read_address, written_here

SILENCES = [
    MlflowException("the database is away", TEMPORARILY_UNAVAILABLE),
    requests.ConnectionError("refused"),
    requests.Timeout("too late"),
]
REFUSALS = [
    MlflowException("nothing that is known"),
    RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}),
    OSError("no space"),
    ValueError(),
]


class Server:
    """Takes entries, notes their texts, and fails as it is told to.

    Attributes:
        taken: the texts of the entries that it has got.
        asked: how often it was.
        fault: what it raises; None takes entries.
        refuses: the text of an entry that it raises this for, whatever else.
    """

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.asked = 0
        self.fault: Exception | None = None
        self.refuses: dict[str, Exception] = {}

    def __call__(self, entry: Path) -> None:
        self.asked += 1
        _, values = read_entry(entry)
        for fault in (self.fault, self.refuses.get(values["text"])):
            if fault is not None:
                raise fault
        self.taken.append(values["text"])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(module, "RETRY_INTERVAL", 0.01)
    return Server()


@pytest.fixture
def box(tracking: str, server: Server, tmp_path: Path) -> Iterator[Outbox]:
    (tmp_path / "box").mkdir()
    made = Outbox(tmp_path / "box", "0123", server)
    yield made
    made.close()


def put(box: Outbox, *texts: str, kind: str = BATCH) -> None:
    for text in texts:
        box.put(kind, {"text": text})


def entries(box: Outbox) -> list[str]:
    return sorted(path.name for path in box.folder.iterdir() if path.is_dir())


def test_entries_are_delivered_in_order_and_go(box: Outbox, server: Server) -> None:
    put(box, *map(str, range(20)))
    assert box.flush() is None
    assert server.taken == [str(number) for number in range(20)]
    assert entries(box) == []


@pytest.mark.parametrize("fault", SILENCES, ids=lambda fault: type(fault).__name__)
def test_while_nobody_answers_the_first_entry_is_tried_again_and_nothing_overtakes_it(
    box: Outbox, server: Server, fault: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    put(box, "before")
    assert box.flush() is None
    server.fault = fault
    put(box, "first", "second")
    wait_until(lambda: server.asked > 5)
    assert box.flush() is fault
    assert len(entries(box)) == 2
    server.fault = None
    wait_until(lambda: server.taken == ["before", "first", "second"])
    assert box.flush() is None
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3, "\n".join(told)
    assert "it does not answer" in told[0]
    assert f"what it logs is kept in {box.folder}" in told[0]
    assert "it is asked once more" in told[1]
    assert told[2].endswith("it answers again")


def test_who_has_interrupted_the_wait_for_a_slow_server_is_soon_let_go(
    box: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(module, "SECONDS_TO_CLOSE", 0.1)
    monkeypatch.setattr(box, "_deliver", lambda _: answers.wait(60))
    (tmp_path / "outer").mkdir()
    outer = Outbox(tmp_path / "outer", "4567", lambda _: answers.wait(60))
    put(box, "slow")
    put(outer, "slow")
    interrupt = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        box.flush()
    assert all(isinstance(one.flush(), InterruptedError) for one in (box, outer))
    answers.set()
    wait_until(lambda: all(one.flush() is None for one in (box, outer)))
    outer.close()


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda fault: type(fault).__name__)
def test_what_is_refused_is_set_aside_for_the_others_and_tried_again_in_the_end(
    box: Outbox, server: Server, fault: Exception
) -> None:
    server.refuses["second"] = fault
    put(box, "first", "second", "third")
    wait_until(lambda: server.taken == ["first", "third"])
    assert box.flush() is fault
    assert len(entries(box)) == 1
    server.refuses.clear()
    assert box.flush() is None
    assert server.taken == ["first", "third", "second"]


def test_what_is_out_of_date_is_dropped(box: Outbox, server: Server) -> None:
    server.refuses["before"] = SILENCES[0]  # so that no state is under way, which may still get there
    put(box, "before")
    put(box, "state 1", kind=CHECKPOINT)
    put(box, "metrics")
    put(box, "state 2", kind=CHECKPOINT)
    box.discard(CHECKPOINT)
    put(box, "state 3", kind=CHECKPOINT)
    server.refuses.clear()
    wait_until(lambda: server.taken == ["before", "metrics", "state 3"])
    assert box.flush() is None


def test_nothing_that_is_put_waits_for_the_server(box: Outbox, server: Server) -> None:
    released = threading.Event()
    deliver_now, box._deliver = box._deliver, lambda entry: (released.wait(20), deliver_now(entry))[1]
    put(box, *map(str, range(10)))
    assert server.taken == []
    released.set()
    assert box.flush() is None
    assert len(server.taken) == 10


def test_what_a_process_left_goes_first_where_the_run_goes_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    server.fault = SILENCES[0]
    with open_outbox("0123", server) as left:
        put(left, "left 1", "left 2")
        assert written_here("0123")
    assert read_address(left.folder).run_id == "0123"
    assert written_here("0123") is False
    server.fault = None
    with open_outbox("0123", server) as again:
        put(again, "new")
        assert again.flush() is None
    assert server.taken == ["left 1", "left 2", "new"]
    assert list((tmp_path / "outbox").glob("*")) == []
    with pytest.raises(UserError, match="expected a folder that a run named"):
        read_address(left.folder)


def test_every_kind_of_entry_may_be_delivered_twice(tracking: str, tmp_path: Path) -> None:
    """As happens to one whose answer was lost, or whose process was killed before it was gone."""
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id
    (tmp_path / "state-2").write_text("newer")
    metric = {"key": "val_loss", "value": 0.5, "timestamp": 1, "step": 1, "model_id": None}
    frame = pd.DataFrame({"row": [1, 2]}).to_json(orient="split").encode()
    dataset = mlflow.data.from_pandas(pd.DataFrame({"name": ["a"]})).to_dict()

    def twice(entry: Path) -> None:
        deliver(run_id, entry)
        deliver(run_id, entry)

    (tmp_path / "box").mkdir()
    box = Outbox(tmp_path / "box", run_id, twice)
    about = {"dataset_name": None, "dataset_digest": None}
    box.put(BATCH, {"metrics": [metric | about], "params": {"epochs": "5"}, "tags": {"kind": "training"}})
    box.put(INPUT, {"dataset": dataset, "context": "train"})
    box.put(FILES, {"name": "report.html"}, b"<p>")
    box.put(TABLE, {"name": "rows.json"}, frame)
    box.put(CHECKPOINT, {"name": "checkpoint/state-1"}, b"older")
    assert box.flush() is None
    box.put(CHECKPOINT, {"name": "checkpoint/state-2"}, tmp_path / "state-2")
    box.put(FILES, {"name": "gone.txt"}, b"text")
    box.put(DELETION, {"name": "gone.txt"})
    assert box.flush() is None
    box.close()

    run = client.get_run(run_id)
    assert points(run_id) == {"val_loss": [(1, 0.5)]}
    assert (run.data.params, run.data.tags["kind"]) == ({"epochs": "5"}, "training")
    (used,) = run.inputs.dataset_inputs
    assert json.loads(used.dataset.profile)["num_rows"] == 1
    assert mlflow.load_table("rows.json", run_ids=[run_id])["row"].tolist() == [1, 2]
    assert {artifact.path for artifact in client.list_artifacts(run_id)} == {"report.html", "rows.json", "checkpoint"}
    (kept,) = client.list_artifacts(run_id, "checkpoint")
    assert kept.path == "checkpoint/state-2"


def test_a_server_that_is_not_there_is_told_of_while_an_attempt_is_still_under_way(
    box: Outbox, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "SAID_AFTER", 0.1)
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    under_way, released = threading.Event(), threading.Event()
    monkeypatch.setattr(box, "_deliver", lambda _: (under_way.set(), released.wait(20)))
    put(box, "slow")
    assert under_way.wait(20)
    said: list[str] = []
    wait_until(lambda: (said.append(capsys.readouterr().err), "it does not answer" in "".join(said))[1])
    released.set()
    assert box.flush() is None
    assert "it answers again" in capsys.readouterr().err


def test_what_is_discarded_while_it_is_delivered_is_not_told_of(
    box: Outbox, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    under_way, released = threading.Event(), threading.Event()

    def fail(_: Path) -> None:
        under_way.set()
        released.wait(20)
        raise FileNotFoundError("content/state")

    monkeypatch.setattr(box, "_deliver", fail)
    put(box, "state", kind=CHECKPOINT)
    assert under_way.wait(20)
    box.discard(CHECKPOINT)
    monkeypatch.setattr(box, "_deliver", server)
    released.set()
    put(box, "metrics")
    assert box.flush() is None
    assert capsys.readouterr().err == ""


def test_an_output_that_is_gone_stops_no_delivery(box: Outbox, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    server.refuses["first"] = ValueError()
    put(box, "first", "second")
    wait_until(lambda: server.taken == ["second"])
    assert isinstance(box.flush(), ValueError)


def leave_folder(root: Path, name: str, *texts: str) -> Path:
    """As a killed process of an older version left it, which counted entries from 1."""
    for number, text in enumerate(texts, start=1):
        entry = root / name / f"{number:08}-{BATCH}"
        entry.mkdir(parents=True)
        (entry / "entry.json").write_text(json.dumps({"text": text}))
        time.sleep(0.01)
    (root / name / "outbox.json").write_text('{"run_id": "0123", "tracking_uri": "http://ann:hunter2@server"}')
    return root / name


def test_folders_of_an_older_version_are_taken_over_in_order(
    tracking: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    root = tmp_path / "outbox" / "0123"
    leave_folder(root, "b", "1", "2")
    leave_folder(root, "a", "3", "4")
    with open_outbox("0123", server) as box:
        put(box, "5")
        assert box.flush() is None
    assert server.taken == ["1", "2", "3", "4", "5"]
    assert not root.exists()


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an outbox that was left in the cache."""
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    return leave_folder(tmp_path / "outbox" / "0123", "a", "1")


@pytest.mark.parametrize("mark", ["publication.json", "end.json"])
def test_a_finished_job_waits_for_its_upload(tracking: str, server: Server, left: Path, mark: str) -> None:
    (left / mark).write_text('{"status": "FINISHED", "end_time": 1}')
    assert outbox_folder.finished_outbox("0123") == left
    with open_outbox("0123", server) as box:
        put(box, "2")
        assert box.flush() is None
    assert server.taken == ["2"]
    assert left.exists()


@pytest.mark.parametrize("damage", [flip, put_pipe, Path.unlink, lambda file: file.write_bytes(b"")])
@pytest.mark.parametrize("part", ["entry.json", "content/report.html"])
def test_what_is_damaged_is_named_and_stays_and_all_else_is_delivered(
    tracking: str,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    part: str,
    damage: Callable[[Path], object],
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    server.fault = SILENCES[0]
    with open_outbox("0123", server) as left:
        put(left, "before")
        left.put(FILES, {"name": "report.html", "text": "report"}, b"<p>")
        put(left, "after")
        left.leave_end("KILLED")
    (file,) = left.folder.glob(f"*-files/{part}")
    damage(file)
    server.fault = None
    with open_outbox("0123", server) as again:
        assert again.flush() is None
        assert again.damage == []
    assert server.taken == ["before", "after"]
    assert sorted(path.name.partition("-")[2] or path.name for path in left.folder.iterdir()) == [
        "files",
        "lock",
        "outbox.json",
    ]
    assert not again.folder.exists()
    assert str(file) in capsys.readouterr().err

    box = Outbox(left.folder, "0123", server)
    assert box.flush() is None
    (why,) = box.damage
    assert why.startswith(str(file))
    box.close()


def test_the_folder_says_whose_it_is_where_its_note_does_not(tmp_path: Path) -> None:
    left = leave_folder(tmp_path / "outbox" / "0123", "a", "1")
    (left / "outbox.json").write_text("{")
    assert read_address(left) == module.Address("0123", "")


@pytest.mark.parametrize("name", ["end.json", "publication.json"])
def test_a_run_goes_on_beside_a_damaged_end(tracking: str, server: Server, left: Path, name: str) -> None:
    (left / name).write_text('{"status": "FINI')
    assert outbox_folder.finished_outbox("0123") is None
    with open_outbox("0123", server) as box:
        assert box.flush() is None
    assert server.taken == ["1"]
    assert (left / name).exists()
