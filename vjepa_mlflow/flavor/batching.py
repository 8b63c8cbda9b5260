"""What several callers ask for at about the same time, done at once."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from queue import Empty, Queue
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
        function: gives a result for each item. What it raises is raised to all whose items it was called with.
        size: items that it is called with at most.
    """

    def __init__(self, function: Callable[[Sequence[Item]], Iterable[Result]], *, size: int):
        self._waiting: Queue[tuple[Item, Future[Result]] | None] = Queue(ROOM * size)
        # The thread does not hold this object, which may so be forgotten while the thread waits.
        threading.Thread(target=_work, args=(self._waiting, function, size), daemon=True).start()

    def submit(self, item: Item) -> "Future[Result]":
        """Returns a future for the item's result; waits while there is no room."""
        result: Future[Result] = Future()
        self._waiting.put((item, result))
        return result

    def close(self) -> None:
        """Ends the thread once it has done what was submitted."""
        self._waiting.put(None)


def _work(
    waiting: "Queue[tuple[Item, Future[Result]] | None]",
    function: Callable[[Sequence[Item]], Iterable[Result]],
    size: int,
) -> None:
    while (first := waiting.get()) is not None:
        batch = [first]
        deadline = time.monotonic() + WAIT_SECONDS
        while len(batch) < size:
            try:
                following = waiting.get(timeout=max(0, deadline - time.monotonic()))
            except Empty:
                break
            if following is None:
                waiting.put(None)
                break
            batch.append(following)
        _call(function, batch)
        del first, batch  # which would keep the last clips until the next ones come


def _call(
    function: Callable[[Sequence[Item]], Iterable[Result]], batch: "Sequence[tuple[Item, Future[Result]]]"
) -> None:
    try:
        results = function([item for item, _ in batch])
    except BaseException as error:
        for _, future in batch:
            future.set_exception(error)
    else:
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
