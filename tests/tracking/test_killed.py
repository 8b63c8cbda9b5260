"""A process that is killed before any call that changes a file of an outbox loses nothing that was complete in it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tools.kills import do, kill_before_each
from vjepa_mlflow.tracking import outbox
from vjepa_mlflow.tracking.delivery import BATCH, CHECKPOINT, FILES
from vjepa_mlflow.tracking.entries import content_path, read_entry
from vjepa_mlflow.tracking.outbox_opening import open_outbox

RUN = "0123"


class Server:
    """Takes entries and notes them in a file, if they are whole; nobody answers while it is away."""

    def __init__(self, notes: Path):
        self.notes = notes
        self.away = False
        self._write = os.write  # not one of the calls that count

    def __call__(self, entry: Path) -> None:
        kind, values = read_entry(entry)
        text = values["text"]
        if "name" in values:
            path = content_path(entry, values["name"])
            held = {one.name: one.read_text() for one in path.iterdir()} if path.is_dir() else path.read_text()
            if held != (text if path.is_file() else {"a": text}):
                raise ValueError(f"{kind} {text} holds {held}")
        if self.away:
            raise requests.ConnectionError
        note = os.open(self.notes, os.O_APPEND | os.O_WRONLY | os.O_CREAT)
        self._write(note, f"{text}\n".encode())
        os.close(note)

    @property
    def delivered(self) -> list[str]:
        return self.notes.read_text().split() if self.notes.exists() else []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(outbox, "RETRY_INTERVAL", 0.001)
    monkeypatch.setattr(
        outbox.mlflow, "get_tracking_uri", lambda: "http://server"
    )  # MLflow's locks are not forked well
    (tmp_path / "state").write_text("state")
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "a").write_text("events")
    return tmp_path


def log_a_run(folder: Path, server: Server) -> None:
    with open_outbox(RUN, server) as box:
        box.flush()
        box.put(BATCH, {"text": "params"})
        box.put(FILES, {"name": "report.html", "text": "report"}, b"report")
        box.flush()
        server.away = True
        box.put(FILES, {"name": "tensorboard", "text": "events"}, folder / "events")
        box.put(CHECKPOINT, {"name": "checkpoint/state", "text": "state"}, folder / "state")
        box.discard(CHECKPOINT)
        box.put(CHECKPOINT, {"name": "checkpoint/state", "text": "state"}, folder / "state")
        box.put(BATCH, {"text": "tags"})
        box.flush()
        server.away = False
        while box.flush() is not None:  # which may tell of an attempt that had begun before
            pass


def kept(folder: Path) -> set[str]:
    """The texts of the entries that were complete."""
    files = (folder / "cache").glob("outbox/*/*/[0-9]*/entry.json")
    return {read_entry(entry.parent)[1]["text"] for entry in files}


def test_whenever_it_is_killed_what_was_complete_is_delivered_and_nothing_stays(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kills = 0
    server = Server(folder / "notes")
    concerns: Callable[[str], bool] = lambda path: path.startswith(str(folder / "cache"))  # noqa: E731
    for kills in kill_before_each(lambda: log_a_run(folder, server), concerns, step=3):  # the tool does all
        complete = kept(folder)
        before = server.delivered
        do(lambda: log_a_run(folder, server))
        after = server.delivered[len(before) :]
        assert complete <= set(after), kills
        assert after[-5:] == ["params", "report", "events", "state", "tags"], kills
        assert not (folder / "cache" / "outbox").exists(), kills
        server.notes.unlink()
    assert kills > 70, kills
    print(f"{kills} kills")
    assert "holds" not in capfd.readouterr().err
