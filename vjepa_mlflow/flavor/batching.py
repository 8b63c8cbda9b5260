"""What several callers ask for at about the same time, done at once."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

WAIT_SECONDS = 0.003
"""That the first of several items waits for others."""

ROOM = 4
"""Batches of items that wait at most. Whoever adds to them waits too."""


class Batcher(Generic[Item, Result]):
    """Calls a function of many items with those that any threads submit, in a thread of its own.

    Args:
        function: gives a result for each item. Where it raises, it is called with each item by itself.
        size: items that it is called with at most.
    """

    def __init__(self, function: Callable[[Sequence[Item]], Iterable[Result]], *, size: int):
        self._line: _Line[tuple[Item, Future[Result]]] = _Line(size)
        # The thread does not hold this object, which may so be forgotten while the thread waits.
        self._thread = threading.Thread(target=_work, args=(self._line, function), daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> "Future[Result]":
        """Returns a future for the item's result; waits while there is no room."""
        result: Future[Result] = Future()
        self._line.put((item, result))
        return result

    def close(self) -> None:
        """Ends the thread once it has done what was submitted. A thread that outlives the program may crash it."""
        self._line.close()
        if self._thread is not threading.current_thread():  # which may be the one to forget the last of its users
            self._thread.join()


class _Line(Generic[Item]):
    """Items that wait to be taken in batches.

    A queue would wake the thread that takes them for each one. In a busy server, waking is what takes time.
    """

    def __init__(self, size: int):
        self._size = size
        self._items: deque[Item] = deque()
        self._closed = False
        lock = threading.Lock()
        self._filled, self._freed = threading.Condition(lock), threading.Condition(lock)

    def put(self, item: Item) -> None:
        with self._freed:
            self._freed.wait_for(lambda: len(self._items) < ROOM * self._size)
            self._items.append(item)
            if len(self._items) in (1, self._size):
                self._filled.notify()

    def take(self) -> list[Item]:
        """Waits for a first item, a little for others, and returns a batch; empty once there will be no more."""
        with self._filled:
            self._filled.wait_for(lambda: self._items or self._closed)
            if len(self._items) < self._size and not self._closed:
                self._filled.wait(WAIT_SECONDS)
            batch = [self._items.popleft() for _ in range(min(self._size, len(self._items)))]
            self._freed.notify_all()
            return batch

    def close(self) -> None:
        with self._filled:
            self._closed = True
            self._filled.notify()


def _work(line: "_Line[tuple[Item, Future[Result]]]", function: Callable[[Sequence[Item]], Iterable[Result]]) -> None:
    while batch := line.take():
        _call(function, batch)
        del batch  # which would keep the last items until the next ones come


def _call(
    function: Callable[[Sequence[Item]], Iterable[Result]], batch: "Sequence[tuple[Item, Future[Result]]]"
) -> None:
    try:
        results = list(function([item for item, _ in batch]))
    except BaseException as error:
        if len(batch) == 1:
            batch[0][1].set_exception(error)
            return
        for one in batch:  # only one of them may be at fault, or all of them be too much
            _call(function, [one])
    else:
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
