"""Stopping at a good moment when asked to once, and at once when asked twice."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def gentle_interrupts(notice: str = "", forward_to: Sequence[int] = ()) -> Iterator[Callable[[], bool]]:
    """Takes the first SIGINT or SIGTERM in the block for a request to stop soon; the second raises KeyboardInterrupt.

    Args:
        notice: is told on the first one.
        forward_to: processes that get the same signals.

    Yields:
        Whether it was asked to stop. In threads, which get no signals, it never is.
    """
    asked = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal asked
        for process in forward_to:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        if asked:
            raise KeyboardInterrupt
        asked = True
        if notice:
            os.write(2, f"\n{notice}\n".encode())  # print may be at work just now, and cannot be entered twice

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminations_as_interrupts() -> Iterator[None]:
    """Has SIGTERM raise KeyboardInterrupt in the block, as SIGINT does; but not in threads, which get no signals."""

    def handle(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
