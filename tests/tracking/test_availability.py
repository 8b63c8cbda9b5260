"""What the user is told of a server that is away."""

import threading

import mlflow
import pytest
from helpers import wait_until
from outboxes import RecordingServer, put

from vjepa_mlflow.tracking import availability
from vjepa_mlflow.tracking.outbox import Outbox


def test_a_server_that_is_not_there_is_told_of_while_an_attempt_is_still_under_way(
    box: Outbox, server: RecordingServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(availability, "SAID_AFTER", 0.1)
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
