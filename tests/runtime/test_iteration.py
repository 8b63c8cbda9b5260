import io
import sys
import threading
import time

import pytest

from vjepa_mlflow.runtime.iteration import batches, map_ahead, progress


def test_results_come_in_order_although_work_ends_out_of_order() -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 2 == 0 else 0)
        return number * number

    assert list(map_ahead(work, range(20))) == [number * number for number in range(20)]


def test_work_never_runs_further_ahead_than_told() -> None:
    started: list[int] = []
    results = map_ahead(lambda number: started.append(number) or number, range(100), ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.05)
    assert len(started) <= 3 + 4
    results.close()  # type: ignore[attr-defined]


def test_an_error_reaches_the_consumer_and_stops_the_work() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    threads = threading.active_count()
    with pytest.raises(ValueError, match="three"):
        list(map_ahead(work, range(100), ahead=4))
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("size", "expected"), [(2, [[0, 1], [2, 3], [4]]), (5, [[0, 1, 2, 3, 4]]), (9, [[0, 1, 2, 3, 4]])]
)
def test_the_last_batch_is_what_is_left(size: int, expected: list[list[int]]) -> None:
    assert list(batches(range(5), size)) == expected


@pytest.mark.parametrize("count", [0, 2])
def test_a_bar_is_shown_on_a_terminal_where_there_is_something_to_do(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress(range(count), total=count, description="Encoding", unit="clip")) == list(range(count))
    assert ("Encoding" in terminal.getvalue()) == (count > 0)
