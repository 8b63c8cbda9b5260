"""What a worker process does but for its trials, in the test's own process."""

import os
import signal
import sys
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from vjepa_mlflow import UserError
from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.search import worker


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> tuple[Channel, Channel]:
    """A worker's, and that of who started it, in a process that stays as it is."""
    monkeypatch.setattr(worker, "_listen", lambda *_: None)
    for name in ("lend_to_libraries", "outlast_readers"):
        monkeypatch.setattr(worker, name, lambda: None)
    for name in ("messages_shown", "own_temporaries", "own_compilations", "worker_processes"):
        monkeypatch.setattr(worker, name, nullcontext)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True, write=len))
    monkeypatch.setenv("MLFLOW_RUN_ID", "of the first process")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    return Channel.pair()


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (None, ""),
        (KeyboardInterrupt(), "it was interrupted"),
        (UserError("the disk is full"), "the disk is full"),
        (ZeroDivisionError("a mistake"), "ZeroDivisionError: a mistake"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_worker_says_why_it_ends(
    channels: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch, error: BaseException | None, end: str
) -> None:
    states: list[object] = []

    def encode_and_run_trials(*_: Any) -> None:
        states.append((os.environ.get("MLFLOW_RUN_ID"), os.environ["LOCAL_WORLD_SIZE"], sys.stderr.isatty()))
        if error:
            raise error

    monkeypatch.setattr(worker, "_encode_and_run_trials", encode_and_run_trials)
    ours, theirs = channels
    assignment: Any = SimpleNamespace(share=SimpleNamespace(world_size=3))
    with pytest.raises(ZeroDivisionError) if isinstance(error, ZeroDivisionError) else nullcontext():
        worker.work(ours, assignment)
    assert theirs.receive()[0] == ("end", end)
    assert states == [(None, "3", False)]


def test_a_worker_begins_when_told_to_and_ends_with_who_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[object] = []
    monkeypatch.setattr(worker, "SECONDS_TO_NOTE", 0)
    monkeypatch.setattr(worker.os, "kill", lambda _, number: ends.append(number))
    monkeypatch.setattr(worker.os, "_exit", ends.append)
    ours, theirs = Channel.pair()
    may_begin = threading.Event()
    thread = threading.Thread(target=worker._listen, args=(ours, may_begin))
    thread.start()
    assert not may_begin.wait(0.05)
    theirs.send(None)
    assert may_begin.wait(10)
    assert not ends
    theirs.close()
    thread.join(10)
    assert ends == [signal.SIGTERM, 1]
