import threading
import time
from collections.abc import Sequence

import pytest
from helpers import wait_until

from vjepa_mlflow.flavor.batching import Batcher
from vjepa_mlflow.runtime.asking import Asker


class Doubling:
    """Remembers what it was called with, and waits until it may answer."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.calls: list[list[int]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        assert self.may_answer.wait(10)
        if -1 in items:
            raise ValueError("minus one")
        return [2 * item for item in items]


def batch(function: Doubling) -> Batcher[int, int]:
    return Batcher(lambda: function, are_coming=lambda: True)


def asker(seconds: float = 0.0) -> Asker:
    made = Asker(may_be_refused=False)
    made.seconds = seconds
    return made


def test_what_waits_at_the_same_time_is_done_at_once_and_in_order() -> None:
    function, one = Doubling(4), asker()
    batcher = batch(function)
    function.may_answer.clear()
    first = batcher.submit(1, one)
    wait_until(lambda: bool(function.calls))
    others = [batcher.submit(number, one) for number in range(2, 8)]
    function.may_answer.set()
    assert [future.result(5) for future in [first, *others]] == [2, 4, 6, 8, 10, 12, 14]
    assert function.calls == [[1], [2, 3, 4, 5], [6, 7]]
    batcher.close()


def test_whoever_has_had_least_comes_first() -> None:
    function, heavy, light = Doubling(2), asker(9.0), asker(0.1)
    batcher = batch(function)
    function.may_answer.clear()
    futures = [batcher.submit(1, heavy)]
    wait_until(lambda: bool(function.calls))
    futures += [batcher.submit(number, heavy) for number in (2, 3, 4)]
    futures += [batcher.submit(5, light)]
    function.may_answer.set()
    assert [future.result(5) for future in futures] == [2, 4, 6, 8, 10]
    assert function.calls == [[1], [5, 2], [3, 4]]
    batcher.close()


def test_one_alone_does_not_wait_long() -> None:
    batcher = batch(Doubling(4))
    batcher.submit(1, asker()).result(5)
    waited = []
    for number in range(10):  # of which a busy machine may hold some up
        started = time.perf_counter()
        batcher.submit(number, asker()).result(5)
        waited.append(time.perf_counter() - started)
    assert min(waited) < 0.1
    batcher.close()


def test_an_error_reaches_whoever_caused_it_and_nobody_else() -> None:
    function, one = Doubling(2), asker()
    batcher = batch(function)
    function.may_answer.clear()
    batcher.submit(0, one)
    wait_until(lambda: bool(function.calls))
    first, wrong, last = (batcher.submit(number, one) for number in (1, -1, 2))
    function.may_answer.set()
    with pytest.raises(ValueError, match="minus one"):
        wrong.result(5)
    assert (first.result(5), last.result(5)) == (2, 4)
    assert function.calls == [[0], [1, -1], [1], [-1], [2]]
    batcher.close()


def test_what_cannot_be_made_is_told_to_whoever_wants_it() -> None:
    def fail() -> Doubling:
        raise ValueError("no memory")

    before = threading.active_count()
    with pytest.raises(ValueError, match="no memory"):
        Batcher(fail, are_coming=lambda: False)
    wait_until(lambda: threading.active_count() == before)


def test_closing_does_what_was_submitted_and_ends_the_thread() -> None:
    before = threading.active_count()
    batcher = batch(Doubling(3))
    futures = [batcher.submit(number, asker()) for number in range(7)]
    batcher.close()
    assert [future.result(0) for future in futures] == [2 * number for number in range(7)]
    assert threading.active_count() == before


def test_a_block_ends_with_the_thread_and_has_done_what_was_submitted() -> None:
    before = set(threading.enumerate())
    with batch(Doubling(2)) as batcher:
        futures = [batcher.submit(number, asker()) for number in range(3)]
    assert [future.result(0) for future in futures] == [0, 2, 4]
    assert set(threading.enumerate()) <= before
