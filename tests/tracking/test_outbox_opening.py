"""An outbox opened beside those that other processes left."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from helpers import flip, put_pipe
from outboxes import ABSENCES, RecordingServer, leave_folder, put

from vjepa_mlflow import UserError
from vjepa_mlflow.tracking import outbox_folder
from vjepa_mlflow.tracking.delivery import FILES
from vjepa_mlflow.tracking.outbox import Outbox
from vjepa_mlflow.tracking.outbox_folder import read_address, written_here
from vjepa_mlflow.tracking.outbox_opening import open_outbox


def test_no_password_is_noted_and_nobody_else_may_read(tracking: str) -> None:
    mlflow.set_tracking_uri("http://ann:hunter2@server:5000")
    with open_outbox("0123", print) as box:
        assert read_address(box.folder).tracking_uri == "http://server:5000"
        assert box.folder.stat().st_mode & 0o077 == 0


def test_what_a_process_left_goes_first_where_the_run_goes_on(
    server: RecordingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    server.fault = ABSENCES[0]
    with open_outbox("0123", server) as left:
        put(left, "left 1", "left 2")
        assert written_here("0123")
    assert read_address(left.folder).run_id == "0123"
    assert written_here("0123") is False
    server.fault = None
    with open_outbox("0123", server) as again:
        put(again, "new")
        assert again.flush() is None
    assert server.delivered == ["left 1", "left 2", "new"]
    assert list((tmp_path / "outbox").glob("*")) == []
    with pytest.raises(UserError, match="expected a folder that a run named"):
        read_address(left.folder)


def test_folders_of_an_older_version_are_taken_over_in_order(
    tracking: str, server: RecordingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    root = tmp_path / "outbox" / "0123"
    leave_folder(root, "b", "1", "2")
    leave_folder(root, "a", "3", "4")
    with open_outbox("0123", server) as box:
        put(box, "5")
        assert box.flush() is None
    assert server.delivered == ["1", "2", "3", "4", "5"]
    assert not root.exists()


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an outbox that was left in the cache."""
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    return leave_folder(tmp_path / "outbox" / "0123", "a", "1")


@pytest.mark.parametrize("mark", ["publication.json", "end.json"])
def test_a_finished_job_waits_for_its_upload(tracking: str, server: RecordingServer, left: Path, mark: str) -> None:
    (left / mark).write_text('{"status": "FINISHED", "end_time": 1}')
    assert outbox_folder.finished_outbox("0123") == left
    with open_outbox("0123", server) as box:
        put(box, "2")
        assert box.flush() is None
    assert server.delivered == ["2"]
    assert left.exists()


@pytest.mark.parametrize("damage", [flip, put_pipe, Path.unlink, lambda file: file.write_bytes(b"")])
@pytest.mark.parametrize("part", ["entry.json", "content/report.html"])
def test_what_is_damaged_is_named_and_stays_and_all_else_is_delivered(
    tracking: str,
    server: RecordingServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    part: str,
    damage: Callable[[Path], object],
) -> None:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    server.fault = ABSENCES[0]
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
    assert server.delivered == ["before", "after"]
    assert sorted(path.name.partition("-")[2] or path.name for path in left.folder.iterdir()) == [
        "files",
        "lock",
        "outbox.json",
    ]
    assert not again.folder.exists()
    assert str(file) in capsys.readouterr().err

    with Outbox(left.folder, "0123", server) as box:
        assert box.flush() is None
        (why,) = box.damage
    assert why.startswith(str(file))


@pytest.mark.parametrize("name", ["end.json", "publication.json"])
def test_a_run_goes_on_beside_a_damaged_end(tracking: str, server: RecordingServer, left: Path, name: str) -> None:
    (left / name).write_text('{"status": "FINI')
    assert outbox_folder.finished_outbox("0123") is None
    with open_outbox("0123", server) as box:
        assert box.flush() is None
    assert server.delivered == ["1"]
    assert (left / name).exists()
