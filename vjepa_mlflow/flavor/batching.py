"""What several callers ask for at about the same time, done at once."""

import heapq
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from vjepa_mlflow.runtime.asking import Asker

Item = TypeVar("Item")
Result = TypeVar("Result")
Given = TypeVar("Given", contravariant=True)
Made = TypeVar("Made", covariant=True)

WAIT_SECONDS = 0.003
"""That the first of several items waits for others, where others are on their way."""


class OfMany(Protocol[Given, Made]):
    """A function that gives a result for each of some items.

    Attributes:
        batch_size: items that it is called with at most.
    """

    batch_size: int

    def __call__(self, items: Sequence[Given], /) -> Iterable[Made]: ...


class Batcher(Generic[Item, Result]):
    """Calls a function of many items with those that any threads submit, in a thread of its own.

    Where more wait than it takes at once, those of askers that have had more of processes' time come as much later.
    As a context manager it ends with its thread, which first does what was submitted.

    Args:
        make: makes the function, in that thread, in which alone it is used. Where the function raises, it is called
            with each item by itself.
        are_coming: whether other items are on their way.

    Raises:
        Exception: what `make` has raised.
    """

    def __init__(self, make: Callable[[], OfMany[Item, Result]], *, are_coming: Callable[[], bool]):
        self._line: _Line[Item, Result] = _Line(are_coming)
        ready: Future[None] = Future()
        # The thread does not hold this object, which may so be forgotten while the thread waits.
        thread = threading.Thread(target=_work, args=(self._line, make, ready), name="batcher", daemon=True)
        thread.start()
        # A thread that outlives the program may crash it.
        self.close = weakref.finalize(self, _end, self._line, thread)
        ready.result()

    def __enter__(self) -> "Batcher[Item, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, item: Item, asker: Asker) -> "Future[Result]":
        """Returns a future for the item's result."""
        result: Future[Result] = Future()
        self._line.put(_Waiting(item, asker, result))
        return result


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    asker: Asker
    result: "Future[Result]"
    since: float = field(default_factory=time.monotonic)


def _end(line: "_Line[Item, Result]", thread: threading.Thread) -> None:
    """Ends the thread once it has done what was submitted."""
    line.close()
    if thread is not threading.current_thread():  # which may be the one to forget the last of its users
        thread.join()


class _Line(Generic[Item, Result]):
    """Items that wait to be taken in batches.

    A queue would wake the thread that takes them for each one. In a busy server, waking is what takes time.
    """

    def __init__(self, are_coming: Callable[[], bool]):
        self._are_coming = are_coming
        self.size = 1
        self._waiting: list[_Waiting[Item, Result]] = []
        self._closed = False
        self._filled = threading.Condition()

    def put(self, waiting: "_Waiting[Item, Result]") -> None:
        with self._filled:
            self._waiting.append(waiting)
            if len(self._waiting) in (1, self.size):
                self._filled.notify()

    def take(self) -> "list[_Waiting[Item, Result]]":
        """Waits for a first item, a little for others, and returns a batch; empty once there will be no more."""
        with self._filled:
            self._filled.wait_for(lambda: self._waiting or self._closed)
            if len(self._waiting) < self.size and not self._closed and self._are_coming():
                self._filled.wait(WAIT_SECONDS)
            batch = heapq.nsmallest(self.size, self._waiting, key=lambda one: one.since + one.asker.seconds)
            self._waiting = [one for one in self._waiting if one not in batch]
            return batch

    def close(self) -> None:
        with self._filled:
            self._closed = True
            self._filled.notify()


def _work(line: "_Line[Item, Result]", make: Callable[[], OfMany[Item, Result]], ready: "Future[None]") -> None:
    try:
        function = make()
    except BaseException as error:
        ready.set_exception(error)
        return
    line.size = function.batch_size
    ready.set_result(None)
    del make, ready  # which hold what only the making needs
    while batch := line.take():
        _call(function, batch)
        del batch  # which would keep the last items until the next ones come


def _call(function: OfMany[Item, Result], batch: "Sequence[_Waiting[Item, Result]]") -> None:
    try:
        results = list(function([one.item for one in batch]))
    except BaseException as error:
        if len(batch) == 1:
            batch[0].result.set_exception(error)
            return
        for one in batch:  # only one of them may be at fault, or all of them be too much
            _call(function, [one])
    else:
        for one, result in zip(batch, results, strict=True):
            one.result.set_result(result)
