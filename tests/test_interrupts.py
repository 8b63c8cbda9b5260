import os
import signal
import subprocess
import sys
import threading

import pytest
from helpers import wait_until

from vjepa_mlflow.interrupts import gentle_interrupts, terminations_as_interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_one_asks_and_the_second_one_interrupts(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with gentle_interrupts("Stopping soon") as asked:
        assert not asked()
        signal.raise_signal(number)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before
    assert capfd.readouterr().err.strip() == "Stopping soon"


def test_other_processes_get_them_too() -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with gentle_interrupts(forward_to=[other.pid, _gone()]):
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


def test_a_termination_interrupts_while_the_block_lasts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminations_as_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def _gone() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child
