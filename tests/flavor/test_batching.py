import threading
import time
from collections.abc import Sequence

import pytest
from helpers import wait_until

from vjepa_mlflow.flavor.batching import ROOM, Batcher


class Doubling:
    """Remembers what it was called with, and waits until it may answer."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        assert self.may_answer.wait(10)
        if -1 in items:
            raise ValueError("minus one")
        return [2 * item for item in items]


def test_what_waits_at_the_same_time_is_done_at_once_and_in_order() -> None:
    function = Doubling()
    batcher = Batcher(function, size=4)
    function.may_answer.clear()
    first = batcher.submit(1)
    wait_until(lambda: bool(function.calls))
    others = [batcher.submit(number) for number in range(2, 8)]
    function.may_answer.set()
    assert [future.result(5) for future in [first, *others]] == [2, 4, 6, 8, 10, 12, 14]
    assert function.calls == [[1], [2, 3, 4, 5], [6, 7]]
    batcher.close()


def test_one_alone_does_not_wait_long() -> None:
    batcher = Batcher(Doubling(), size=4)
    batcher.submit(1).result(5)
    started = time.perf_counter()
    batcher.submit(2).result(5)
    assert time.perf_counter() - started < 0.1
    batcher.close()


def test_an_error_reaches_whoever_caused_it_and_nobody_else() -> None:
    function = Doubling()
    batcher = Batcher(function, size=2)
    function.may_answer.clear()
    batcher.submit(0)
    wait_until(lambda: bool(function.calls))
    first, wrong, last = (batcher.submit(number) for number in (1, -1, 2))
    function.may_answer.set()
    with pytest.raises(ValueError, match="minus one"):
        wrong.result(5)
    assert (first.result(5), last.result(5)) == (2, 4)
    assert function.calls == [[0], [1, -1], [1], [-1], [2]]
    batcher.close()


def test_only_so_many_wait_and_the_next_one_is_held_up() -> None:
    function = Doubling()
    batcher = Batcher(function, size=2)
    function.may_answer.clear()
    batcher.submit(0)
    wait_until(lambda: bool(function.calls))
    for number in range(2 * ROOM):
        batcher.submit(number)
    held_up = threading.Thread(target=batcher.submit, args=(99,))
    held_up.start()
    held_up.join(0.2)
    assert held_up.is_alive()
    function.may_answer.set()
    held_up.join(5)
    assert not held_up.is_alive()
    batcher.close()
    assert sum(map(len, function.calls)) == 2 * ROOM + 2


def test_closing_does_what_was_submitted_and_ends_the_thread() -> None:
    before = threading.active_count()
    batcher = Batcher(Doubling(), size=3)
    futures = [batcher.submit(number) for number in range(7)]
    batcher.close()
    assert [future.result(0) for future in futures] == [2 * number for number in range(7)]
    assert threading.active_count() == before
