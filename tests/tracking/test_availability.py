"""What the user is told of a server that is away."""

import threading
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from helpers import wait_until
from outboxes import RecordingServer, put

from vjepa_mlflow.tracking import availability
from vjepa_mlflow.tracking.answers import understand
from vjepa_mlflow.tracking.availability import Availability
from vjepa_mlflow.tracking.outbox import Outbox


def test_a_server_that_is_not_there_is_told_of_while_an_attempt_is_still_under_way(
    box: Outbox, server: RecordingServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(availability, "LOOK_AFTER", 0.1)
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


@pytest.fixture
def note(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Notes an attempt, and returns the warnings."""
    monkeypatch.setattr(availability, "server", lambda: "tracking URI http://server")
    made = Availability(Path("/folder"), "0123")

    def note(error: Exception | None, *, of_artifacts: bool = False) -> str:
        made.note(error, None if error is None else understand(error), of_artifacts=of_artifacts)
        return f"{made.is_blocked} {capsys.readouterr().err}"

    return note


AWAY, REFUSED = ConnectionError("refused"), ValueError("no such thing")


def test_that_a_server_is_away_is_told_once_until_it_answers_again(note: Callable[..., str]) -> None:
    assert note(None) == "False "
    assert note(AWAY).startswith("True Tracking URI http://server: it does not answer (")
    assert note(AWAY) == "True "
    assert note(None) == "False Tracking URI http://server: it answers again\n"
    assert "it does not answer" in note(AWAY)


def test_a_refusal_is_told_once_and_blocks_nothing(note: Callable[..., str]) -> None:
    refusal = "False Tracking URI http://server: it refuses (no such thing): work goes on, and what was refused is"
    assert note(REFUSED).startswith(refusal)
    assert note(REFUSED) == note(None) == "False "
    assert "it refuses (another)" in note(ValueError("another"))


def test_a_store_of_artifacts_is_away_by_itself(note: Callable[..., str]) -> None:
    assert "http://server, or the store of its artifacts: it does not answer" in note(AWAY, of_artifacts=True)
    assert note(None) == "True "
    assert note(None, of_artifacts=True).endswith("or the store of its artifacts: it answers again\n")


def test_a_server_that_refuses_is_there_again(note: Callable[..., str]) -> None:
    note(AWAY)
    warnings = note(REFUSED)
    assert "it answers again" in warnings
    assert "it refuses" in warnings
