import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from helpers import environment, wait_until

from vjepa_mlflow.runtime import interrupts
from vjepa_mlflow.runtime.interrupts import gentle_interrupts, orderly_interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_one_asks_and_the_second_one_interrupts(
    number: signal.Signals, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    with gentle_interrupts("Stopping soon") as asked:
        assert not asked()
        signal.raise_signal(number)
        assert asked()
        signal.raise_signal(number)  # a key pressed twice
        monkeypatch.setattr(interrupts, "TOGETHER", 0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before
    assert capfd.readouterr().err.strip() == "Stopping soon"


@pytest.mark.parametrize(
    "others", [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT), (signal.SIGHUP, signal.SIGTERM)]
)
def test_one_of_another_kind_is_the_same_request_however_late(
    others: tuple[signal.Signals, signal.Signals], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `mlflow run`, which sends SIGTERM where the terminal has sent SIGINT."""
    monkeypatch.setattr(interrupts, "TOGETHER", 0)
    with gentle_interrupts("Stopping soon") as asked:
        for number in others:
            signal.raise_signal(number)
        assert asked()
        for number in others:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
            monkeypatch.setattr(interrupts, "PATIENCE", 0)
    assert capfd.readouterr().err.strip() == "Stopping soon"


@pytest.mark.parametrize("blocks", [gentle_interrupts, orderly_interrupts])
def test_a_hangup_that_is_ignored_when_we_start_stays_so(blocks: Callable[[], AbstractContextManager[Any]]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with blocks() as asked:
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
            assert not (asked and asked())
    finally:
        signal.signal(signal.SIGHUP, before)


ASKED = """
import os, signal
from vjepa_mlflow.runtime.interrupts import gentle_interrupts

with open("first", "w") as first, gentle_interrupts("Stopping soon") as asked:
    signal.raise_signal(signal.SIGHUP)
    assert asked()
"""


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
def test_a_notice_that_nobody_can_read_harms_nothing(closed: str, tmp_path: Path) -> None:
    program = shlex.join([sys.executable, "-c", ASKED])
    subprocess.run(["sh", "-c", f"{program} {closed}"], cwd=tmp_path, env=environment(), check=True)
    assert (tmp_path / "first").read_text() == ""  # which has the descriptor of a stderr that was closed


def test_other_processes_get_them_too() -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with gentle_interrupts(forward_to=lambda: [other.pid, _gone()]):
        signal.raise_signal(signal.SIGTERM)
        wait_until(lambda: other.poll() is not None)
    assert other.returncode == -signal.SIGTERM


def test_in_a_thread_nothing_is_asked() -> None:
    found: list[bool] = []

    def use() -> None:
        with gentle_interrupts() as asked:
            found.append(asked())

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert found == [False]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_because_of_an_interrupt_is_not_interrupted_again_but_by_the_patient(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    for _ in range(2):  # the second block hears its own
        with orderly_interrupts():
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
            signal.raise_signal(number)
    with orderly_interrupts():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        monkeypatch.setattr(interrupts, "PATIENCE", 0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_nor_is_what_ends_after_it_was_asked_to_stop() -> None:
    ended = False
    with orderly_interrupts():
        with pytest.raises(KeyError), gentle_interrupts():
            _ask_and_leave()
        signal.raise_signal(signal.SIGINT)
        ended = True
    assert ended


def _ask_and_leave() -> None:
    signal.raise_signal(signal.SIGINT)
    raise KeyError


def _gone() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child
