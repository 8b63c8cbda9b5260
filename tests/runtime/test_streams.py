import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from helpers import wait_until
from stream_work import DieOnce, arrays_of, count_to, die, fail, forget_to_allocate, grow

from vjepa_mlflow import UserError
from vjepa_mlflow.runtime import streams, workers
from vjepa_mlflow.runtime.streams import Stream
from vjepa_mlflow.runtime.workers import worker_processes


def started(function: Any, items: Any, *, size: int = 0) -> Stream[Any, Any]:
    def finish(item: Any, result: Any) -> tuple[Any, Any]:
        return item, result.copy() if isinstance(result, np.ndarray) else result

    return Stream([function] * 2, items, finish=finish, size=lambda _: size)


def taken(stream: Stream[Any, Any]) -> list[Any]:
    found = []
    while (one := stream.take()) is not None:
        found.append(one)
    assert stream.is_done
    stream.close()
    return found


def test_all_results_of_all_items_come_an_items_in_its_order() -> None:
    found = taken(started(count_to, [3, 0, 40, 5]))
    assert [result for item, result in found if item == 40] == list(range(40))
    assert sorted(found) == sorted((item, result) for item in (3, 40, 5) for result in range(item))


@pytest.mark.parametrize("size", [3, 1 << 16, 3 << 20])
def test_arrays_come_as_they_were(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEPT", 1 << 20)
    monkeypatch.setattr(streams, "SHARED", 1 << 20)  # less than the largest
    found = taken(started(arrays_of, [size, size + 1, 1]))
    assert sorted((len(array), set(array.tolist())) for _, array in found) == [
        (length, {value}) for length in (1, size, size + 1) for value in range(3)
    ]


def test_memory_that_grew_is_given_back_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEPT", 10)
    monkeypatch.setattr(streams, "SHARED", 1000)
    stream = started(grow, [100] * 20)
    assert len(taken(stream)) == 60
    assert stream._shared._taken == 0


def test_what_nobody_takes_keeps_the_processes_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ROOM", 10)
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            begun.append(number)
            yield 4

    with worker_processes():
        stream = started(count_to, items(), size=3)
        assert stream.take() is not None
        time.sleep(0.5)
        assert len(begun) < 20
        assert len(stream._results) <= 3
        found = [stream.take(wait=False) for _ in range(4)]
        assert None not in found[:2]
        stream.close()
    assert stream._results == type(stream._results)()


def test_what_is_not_there_yet_is_not_waited_for() -> None:
    stream = started(count_to, iter([1]))
    wait_until(lambda: len(stream._results) == 1)
    assert stream.take(wait=False) == (1, 0)
    assert stream.take(wait=False) is None
    stream.close()


def test_an_error_is_raised_where_its_result_would_be_taken() -> None:
    stream = started(fail, ["text"])
    assert stream.take() == ("text", "text")
    with pytest.raises(ValueError, match="could not convert string to float: 'text'"):
        stream.take()
    stream.close()
    with pytest.raises(ValueError, match="does not lie in memory that was allocated"):
        taken(started(forget_to_allocate, [3]))


def test_an_item_over_which_a_process_dies_is_begun_again_once(tmp_path: Path) -> None:
    assert sorted(taken(started(DieOnce(tmp_path), [1, 2]))) == sorted(
        [(1, 1), (1, 1), (1, -1), (2, 2), (2, 2), (2, -2)]
    )
    stream = started(die, [7])
    assert [stream.take(), stream.take()] == [(7, 1), (7, 1)]
    with pytest.raises(UserError, match="2 worker processes died over 7: expected enough memory"):
        stream.take()
    stream.close()


def test_a_stream_that_could_not_begin_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_SHARED", workers._Shared())
    start, begun = threading.Thread.start, []

    def start_one(thread: threading.Thread) -> None:
        if begun:
            raise KeyboardInterrupt
        begun.append(thread)
        start(thread)

    def begin() -> None:
        with worker_processes(), monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start_one)
            started(count_to, [10**9], size=1)

    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(KeyboardInterrupt):
        begin()
    assert psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=10)[1] == []


def test_a_process_that_is_started_while_its_stream_is_closed_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, closing = threading.Event(), threading.Event()

    def start_late(*arguments: Any) -> Any:
        asked.set()
        closing.wait(10)
        return workers.start_process(*arguments)

    monkeypatch.setattr(streams, "start_process", start_late)
    stream = started(count_to, [3])
    asked.wait(10)
    closer = threading.Thread(target=stream.close)
    closer.start()
    wait_until(lambda: stream._closed)
    before = set(psutil.Process().children(recursive=True))
    closing.set()
    closer.join()
    assert not stream._workers
    left = set(psutil.Process().children(recursive=True)) - before
    assert psutil.wait_procs(left, timeout=10)[1] == []


def test_a_block_of_worker_processes_ends_what_was_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_SHARED", workers._Shared())  # or the session's block would be around this one
    before = set(psutil.Process().children(recursive=True))
    with worker_processes():
        stream = started(count_to, [10**9], size=1)
        assert stream.take() is not None
        processes = set(psutil.Process().children(recursive=True)) - before
    assert processes
    assert not any(thread.is_alive() for thread in stream._threads)
    assert psutil.wait_procs(processes, timeout=10)[1] == []
