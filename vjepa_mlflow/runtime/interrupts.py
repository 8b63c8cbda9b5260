"""Stopping at a good moment when asked to once, and soon when asked twice."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

TOGETHER = 0.5
"""Seconds from a signal for which others of its kind are the same request: a key pressed twice, a terminal that is
closed, of which the system tells and the shell as well."""

PATIENCE = 10
"""Seconds from an interrupt for which what ends because of it is not interrupted again."""

NEVER = float("-inf")


class _Interrupted:
    """When this process was last interrupted: what is on its way out of one block is so out of those around it too."""

    at = NEVER

    @classmethod
    def now(cls) -> None:
        cls.at = time.monotonic()

    @classmethod
    def lately(cls) -> bool:
        return time.monotonic() - cls.at < PATIENCE


@contextmanager
def orderly_interrupts() -> Iterator[None]:
    """Has the signals raise KeyboardInterrupt in the block, but not again while that is on its way out.

    Whoever presses Ctrl-C again and again would otherwise interrupt what saves and ends a run. Who still waits after
    `PATIENCE` seconds is heard once more. In threads, which get no signals, nothing changes.
    """
    with _handling(lambda _, __: _interrupt()):
        yield


@contextmanager
def gentle_interrupts(
    notice: str = "", forward_to: Callable[[], Iterable[int]] = tuple
) -> Iterator[Callable[[], bool]]:
    """Takes the first signal in the block for a request to stop soon; the same one later raises KeyboardInterrupt.

    One of another kind is the same request, passed on: `mlflow run` sends SIGTERM on a Ctrl-C, which the terminal has
    sent already as SIGINT.

    Args:
        notice: is told on the first one.
        forward_to: gives the processes that get the same signals.

    Yields:
        Whether it was asked to stop. In threads, which get no signals, it never is.
    """
    asked_at: dict[int, float] = {}

    def handle(number: int, _: FrameType | None) -> None:
        for process in forward_to():
            with suppress(ProcessLookupError):
                os.kill(process, number)
        if number in asked_at:
            if time.monotonic() - asked_at[number] >= TOGETHER:
                _interrupt()
            return
        if notice and not asked_at:
            _tell(notice)
        asked_at[number] = time.monotonic()

    with _handling(handle):
        try:
            yield lambda: bool(asked_at)
        except BaseException:
            if asked_at:
                _Interrupted.now()
            raise


def _tell(notice: str) -> None:
    """Writes by itself: print may be at work just now, and cannot be entered twice."""
    if sys.stderr is not None:  # else it was closed when we started, and what has its number now is another file
        with suppress(OSError):  # of a terminal that is gone
            os.write(2, f"\n{notice}\n".encode())


def _interrupt() -> None:
    if not _Interrupted.lately():
        _Interrupted.now()
        raise KeyboardInterrupt


@contextmanager
def _handling(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Interrupted.at = NEVER  # whoever enters a block goes on
    before = {number: signal.signal(number, handle) for number in SIGNALS if not _is_ignored_hangup(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_ignored_hangup(number: signal.Signals) -> bool:
    """Whether this process is to outlast its terminal, as `nohup` starts it."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
