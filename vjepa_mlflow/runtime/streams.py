"""Work for several processes of which each item has many results, which are taken as they come, of whichever item."""

import mmap
import os
import pickle
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.runtime.workers import ATTEMPTS, InWorkerError, close_at_end, died_over, pickled, start_process

Item = TypeVar("Item")
Result = TypeVar("Result")

ROOM = 1 << 30
"""Bytes of results that wait to be taken, at most, but for one that is larger by itself."""

SHARED = 2 << 30
"""Bytes of memory that workers and this process share beside `KEPT`, but for one result that is larger by itself."""

KEPT = 32 << 20
"""Bytes that each process may have all the time; one that needs more for an item waits for it."""

Allocate = Callable[[int], np.ndarray]
"""Gives so many bytes of memory for the arrays of the next result, once the last one is no longer read."""

Work = Callable[[Any, Allocate], Iterator[Any]]
"""Yields an item's results, whose arrays lie in the memory that it is given for each."""

Pin = Callable[[memoryview], Callable[[], None]]
"""Makes memory ready for a GPU, and returns what undoes that."""


def no_pin(_: memoryview) -> Callable[[], None]:
    """Where no GPU reads it."""
    return lambda: None


class Stream(Generic[Item, Result]):
    """What worker processes make of items, several of them at a time; what one makes of an item comes in its order.

    The processes are the stream's own, and end with it, or with the block of `worker_processes`.

    Args:
        functions: what each process does, picklable. Each result is handed on before the next one is made. Where a
            process dies over an item, another one begins it again, once.
        items: what to work on, begun in their order.
        finish: what is made here of each result, in a thread. The arrays in it are void afterwards.
        size: the bytes that what `finish` returns takes while it waits.
        pin: is given the memory that a process shares with this one.
    """

    def __init__(
        self,
        functions: Sequence[Work],
        items: Iterable[Item],
        *,
        finish: Callable[[Item, Any], Result],
        size: Callable[[Result], int],
        pin: Pin = no_pin,
    ):
        self._finish, self._size, self._pin = finish, size, pin
        self._items = iter(items)
        self._results: deque[Result | BaseException] = deque()
        self._changed = threading.Condition()
        self._waiting, self._shared = _Bytes(ROOM, self._changed), _Bytes(SHARED, self._changed)
        self._closed = False
        self._workers: set[_Worker] = set()
        self._threads = [threading.Thread(target=self._work, args=(function,), daemon=True) for function in functions]
        self._at_work = len(self._threads)
        close_at_end(self)
        for thread in self._threads:
            thread.start()

    def take(self, *, wait: bool = True) -> Result | None:
        """The next result; None where there will be none any more, or none is there and it is not to be waited for.

        Raises:
            UserError: workers died. So is whatever else the function, or `finish`, has raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._results or not self._at_work or not wait)
            if not self._results:
                return None
            result = self._results.popleft()
            if isinstance(result, BaseException):
                raise result
            self._waiting.give_back(self._size(result))
            return result

    @property
    def is_done(self) -> bool:
        """Whether everything was taken."""
        with self._changed:
            return not self._results and not self._at_work

    def close(self) -> None:
        """Ends the processes, whatever they do."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._waiting.close()
            self._shared.close()
            for worker in self._workers:
                worker.leave()
        for thread in self._threads:
            with suppress(RuntimeError):  # it was never started
                thread.join()
        self._results.clear()

    def _work(self, function: Work) -> None:
        worker: _Worker | None = None
        try:
            while (item := self._next()) is not None:
                worker = self._do(function, item[0], worker)
        except _ClosedError:
            pass
        except BaseException as error:
            with self._changed:
                self._results.append(error)
        finally:
            self._let_go(worker)
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def _next(self) -> tuple[Item] | None:
        with self._changed:
            return None if self._closed else next(((item,) for item in self._items), None)

    def _do(self, function: Work, item: Item, worker: "_Worker | None") -> "_Worker":
        for left in reversed(range(ATTEMPTS)):
            try:
                worker = worker or self._start()
                for result in worker.results(function, item):
                    finished = self._finish(item, result)
                    self._put(finished, self._size(finished))
                return worker
            except (EOFError, BrokenPipeError) as error:
                self._let_go(worker)
                worker = None
                if self._closed:
                    raise _ClosedError from error
                if not left:
                    raise died_over(item) from error
        raise AssertionError

    def _start(self) -> "_Worker":
        worker = _Worker(self._shared, self._pin)
        with self._changed:
            self._workers.add(worker)
            is_wanted = not self._closed
        if not is_wanted:
            self._let_go(worker)
            raise _ClosedError
        return worker

    def _let_go(self, worker: "_Worker | None") -> None:
        if worker is not None:
            worker.leave()
            worker.let_go()
            with self._changed:
                self._workers.discard(worker)

    def _put(self, result: Result, size: int) -> None:
        with self._changed:
            self._waiting.take(size)
            self._results.append(result)
            self._changed.notify_all()


class _ClosedError(Exception):
    """Nobody wants the results any more."""


class _Bytes:
    """So many bytes, of which threads take some and give them back.

    Args:
        size: how many there are.
        changed: is held while they are taken or given back, and told of it.
    """

    def __init__(self, size: int, changed: threading.Condition):
        self._size, self._changed = size, changed
        self._taken = 0
        self._closed = False

    def take(self, size: int) -> None:
        """Waits until there are so many, or until nobody has any.

        Raises:
            _ClosedError: none are to be had any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._taken or self._taken + size <= self._size)
            if self._closed:
                raise _ClosedError
            self._taken += size

    def give_back(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class _Wish(NamedTuple):
    """That a process wants to have so many bytes of shared memory."""

    size: int


class _Answer(NamedTuple):
    """A result, or what else there is to say of an item.

    Attributes:
        content: it, or an error, pickled; empty where there are no more results.
        places: where its arrays begin and end in the shared memory.
        trace: of an error; empty for a result.
    """

    content: bytes = b""
    places: tuple[tuple[int, int], ...] = ()
    trace: str = ""


class _Worker:
    """A process that makes results, as its thread here sees it.

    Args:
        shared: what of the memory that it shares with this process it must ask for.
        pin: see `Stream`.
    """

    def __init__(self, shared: _Bytes, pin: Pin):
        self._shared, self._pin = shared, pin
        self._channel = start_process(_serve).channel
        self._descriptor = os.memfd_create("vjepa-mlflow")
        weakref.finalize(self, os.close, self._descriptor)
        self._channel.send(None, self._descriptor)
        self._taken = 0
        self._memory = memoryview(b"")
        self._unpin: Callable[[], None] = lambda: None

    def results(self, function: Work, item: Any) -> Iterator[Any]:
        """Yields an item's results; the arrays in one are void once the next one is asked for.

        Raises:
            EOFError: the process has died. So does BrokenPipeError say.
        """
        self._channel.send((function, item))
        try:
            while True:
                answer = self._channel.receive()[0]
                if isinstance(answer, _Wish):
                    self._grow(answer.size)
                    self._channel.send(None)
                    continue
                if not answer.content:
                    return
                result = pickle.loads(answer.content, buffers=[self._memory[begin:end] for begin, end in answer.places])
                if answer.trace:
                    raise result from InWorkerError(answer.trace)
                yield result
                self._channel.send(None)
        finally:
            if self._taken:
                self._shrink()

    def _grow(self, size: int) -> None:
        self._shared.give_back(self._taken)
        self._taken = 0
        if size > KEPT:
            self._shared.take(size)
            self._taken = size
        self._unpin()
        self._unpin = lambda: None
        os.ftruncate(self._descriptor, size)
        self._memory = memoryview(mmap.mmap(self._descriptor, size))
        self._unpin = self._pin(self._memory)

    def _shrink(self) -> None:
        self._unpin()
        self._unpin, self._memory = lambda: None, memoryview(b"")
        os.ftruncate(self._descriptor, 0)
        self._shared.give_back(self._taken)
        self._taken = 0

    def leave(self) -> None:
        """Lets the process end, which it does when it next has something to say. Whoever listens hears of the end."""
        self._channel.close()

    def let_go(self) -> None:
        """Gives the memory up, once nobody listens to the process any more."""
        self._unpin()
        self._unpin = lambda: None


class _Memory:
    """The memory that the process shares, as it sees it."""

    def __init__(self, channel: Channel, descriptor: int):
        self._channel, self._descriptor = channel, descriptor
        self._mapped = np.empty(0, np.uint8)
        self._is_lent = False

    def allocate(self, size: int) -> np.ndarray:
        self.wait()
        if size > len(self._mapped):
            self._channel.send(_Wish(size))
            self._channel.receive()
            self._mapped = np.frombuffer(mmap.mmap(self._descriptor, size), np.uint8)
        return self._mapped[:size]

    def wait(self) -> None:
        """Waits until nobody reads the last result any more."""
        if self._is_lent:
            self._channel.receive()
            self._is_lent = False

    def lend(self, result: object) -> None:
        """Hands a result on, with its arrays, which lie here."""
        self.wait()
        places: list[tuple[int, int]] = []
        first = self._mapped.ctypes.data

        def place(array: pickle.PickleBuffer) -> None:
            values = np.frombuffer(array.raw(), np.uint8)
            begin = values.ctypes.data - first
            if not 0 <= begin <= begin + values.nbytes <= len(self._mapped):
                raise ValueError("an array of a result does not lie in memory that was allocated for it")
            places.append((begin, begin + values.nbytes))

        content = pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=place)
        self._channel.send(_Answer(content, tuple(places)))
        self._is_lent = True

    def end_item(self) -> None:
        self.wait()
        if len(self._mapped) > KEPT:
            self._mapped = np.empty(0, np.uint8)


def _serve(channel: Channel) -> None:
    """What the process does, until nobody is there any more."""
    _, (descriptor,) = channel.receive(descriptors=1)
    memory = _Memory(channel, descriptor)
    while True:
        function, item = channel.receive()[0]
        try:
            for result in function(item, memory.allocate):
                memory.lend(result)
        except Exception as error:
            memory.wait()
            channel.send(_Answer(pickled(error), trace=traceback.format_exc()))
            continue
        memory.end_item()
        channel.send(_Answer())
