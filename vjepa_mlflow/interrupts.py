"""Stopping at a good moment when asked to once, and soon when asked twice."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

TOGETHER = 0.5
"""Seconds from an interrupt for which others are the same one: a key pressed twice, a signal sent by two programs."""

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
    """Has SIGINT and SIGTERM raise KeyboardInterrupt in the block, but not again while that is on its way out.

    Whoever presses Ctrl-C again and again would otherwise interrupt what saves and ends a run. Who still waits after
    `PATIENCE` seconds is heard once more. In threads, which get no signals, nothing changes.
    """
    with _handling(lambda _, __: _interrupt()):
        yield


@contextmanager
def gentle_interrupts(notice: str = "", forward_to: Sequence[int] = ()) -> Iterator[Callable[[], bool]]:
    """Takes the first SIGINT or SIGTERM in the block for a request to stop soon; a later one raises KeyboardInterrupt.

    Args:
        notice: is told on the first one.
        forward_to: processes that get the same signals.

    Yields:
        Whether it was asked to stop. In threads, which get no signals, it never is.
    """
    asked_at = NEVER

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal asked_at
        for process in forward_to:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        if asked_at == NEVER:
            asked_at = time.monotonic()
            if notice:
                os.write(2, f"\n{notice}\n".encode())  # print may be at work just now, and cannot be entered twice
        elif time.monotonic() - asked_at >= TOGETHER:
            _interrupt()

    with _handling(handle):
        try:
            yield lambda: asked_at != NEVER
        except BaseException:
            if asked_at != NEVER:
                _Interrupted.now()
            raise


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
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
