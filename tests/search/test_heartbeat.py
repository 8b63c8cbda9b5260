import threading
from typing import Any

import pytest
from helpers import wait_until
from optuna.exceptions import UpdateFinishedTrialError

from vjepa_mlflow.search import heartbeat
from vjepa_mlflow.search.heartbeat import Heartbeat, StaleTrials


class Storage:
    def __init__(self) -> None:
        self.beats = 0
        self.notes: list[str] = []
        self.interrupted: list[int] = []

    def record_heartbeat(self, _: int) -> None:
        self.beats += 1
        raise OSError("it is away")  # of which the thread does not end

    def note_once(self, _: int, name: str, __: Any) -> None:
        self.notes.append(name)

    def last_heartbeats(self, _: int) -> dict[int, object]:
        return {7: "12:00", 8: "12:00"}

    def interrupt_once(self, trial_id: int) -> None:
        self.interrupted.append(trial_id)
        if trial_id == 7:
            raise UpdateFinishedTrialError("it has just ended")


def test_a_block_has_heartbeats_and_notes_a_stop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "PAUSE", 0.001)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_INTERVAL", 0)
    storage: Any = Storage()
    before = threading.active_count()
    with Heartbeat(storage, 7, stopping=lambda: storage.beats > 1, stale=StaleTrials(storage, 1)):
        wait_until(lambda: storage.beats > 3)
    assert storage.notes == ["given_back"]
    assert threading.active_count() == before
    beats = storage.beats
    with pytest.raises(KeyError), Heartbeat(storage, 7, stopping=bool, stale=StaleTrials(storage, 1)):
        raise KeyError
    assert threading.active_count() == before
    assert storage.beats <= beats + 1


def test_all_stale_trials_are_interrupted_though_others_may_have_seen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "GRACE_PERIOD", 0)
    storage: Any = Storage()
    StaleTrials(storage, 1).interrupt()
    assert storage.interrupted == [7, 8]
