"""Work for several processes: items in, results out in their order, ahead of whoever takes them."""

import os
import pickle
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.runtime.channel import Channel, map_memory, memory_file, write
from vjepa_mlflow.runtime.cpus import usable_cpus
from vjepa_mlflow.runtime.iteration import progress
from vjepa_mlflow.runtime.processes import ForkServer, Started, Surroundings
from vjepa_mlflow.runtime.ranks import local_world_size

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")

PRELOADED = ("vjepa_mlflow.runtime.workers", "vjepa_mlflow.video.preflight", "vjepa_mlflow.video.reader")
"""What most worker processes work with. They need no PyTorch, which takes seconds to import."""

MAX_WORKERS = 32
AHEAD = 2
"""Results for each worker that are ready, or on their way, before they are wanted."""

ATTEMPTS = 2
"""At an item over which a worker dies, as one may that was killed for memory that others took."""

LEAST_APART = 1 << 16
"""Bytes of an array from which on it comes back as memory that both processes have, and not in the message."""


@contextmanager
def worker_processes() -> Iterator[None]:
    """Keeps worker processes for all that is done in the block, in whichever thread; those left at its end are ended.

    Every function here that needs some is such a block by itself, and a block around several of them saves what
    starting takes.
    """
    _SHARED.enter()
    try:
        yield
    finally:
        _SHARED.leave()


def start_process(function: Callable[..., Any], *arguments: Any) -> Started:
    """Starts a process of our own, which ends with the block of `worker_processes`; see `ForkServer.start`."""
    return _SHARED.workers().start(function, *arguments)


class Closable(Protocol):
    """What can be closed, also twice."""

    def close(self) -> None: ...


def close_at_end(work: Closable) -> None:
    """Has something closed when the block of `worker_processes` ends, if it is still there."""
    _SHARED.workers().at_end.add(work)


class WorkerPool(Generic[Item, Result]):
    """Maps a function over items in worker processes, which start when they are needed and serve all pools.

    Args:
        function: a picklable callable, whose module is imported in each worker. What it raises is raised to the
            consumer. Arrays come back as memory that needs no copy.
    """

    def __init__(self, function: Callable[[Item], Result]):
        self._function = function
        self._ahead = AHEAD * count_workers()

    def map(self, items: Iterable[Item]) -> Iterator[Result]:
        """Yields the function's results in the order of the items.

        Raises:
            UserError: a worker died.
        """
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(_SHARED.workers().submit(self._function, item))
                if len(waiting) >= self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for unwanted in waiting:
                unwanted.cancel()


def complete(
    cached: Sequence[Result | None], items: Sequence[Item], function: Callable[[Item], Result], *, description: str
) -> list[Result]:
    """What is known of items, and in place of each None what worker processes make of the item, with a progress bar.

    Args:
        cached: of each item what is known of it, in their order.
        items: videos, in whatever form the function takes them.
        function: as `WorkerPool` has it.
        description: of the bar.

    Raises:
        UserError: a worker died.
    """
    missing = [item for item, result in zip(items, cached, strict=True) if result is None]
    with worker_processes():
        pool: WorkerPool[Item, Result] = WorkerPool(function)
        made = progress(pool.map(missing), total=len(missing), description=description, unit="video")
        return [next(made) if result is None else result for result in cached]


class _OfThread(threading.local):
    """What each thread that waits has."""

    channel: Channel | None = None


class _Workers:
    """Processes that call functions, each with a thread here that waits for it."""

    def __init__(self, count: int):
        self._lock = threading.Lock()
        self._ended = False
        self._server = ForkServer(*PRELOADED)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="worker")
        self._of_thread = _OfThread()
        self._channels: list[Channel] = []
        self.at_end: weakref.WeakSet[Closable] = weakref.WeakSet()

    def start(self, function: Callable[..., Any], *arguments: Any) -> Started:
        with self._lock:
            if self._ended:
                raise EOFError("they have ended")
            return self._server.start(function, *arguments, surroundings=Surroundings.of_this_process())

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Any]":
        return self._threads.submit(self._call, function, item)

    def _call(self, function: Callable[[Any], Any], item: Any) -> Any:
        for left in reversed(range(ATTEMPTS)):
            try:
                if self._of_thread.channel is None:
                    self._of_thread.channel = self.start(_serve).channel
                    self._channels.append(self._of_thread.channel)
                return _ask(self._of_thread.channel, function, item)
            except (EOFError, BrokenPipeError) as error:
                self._of_thread.channel = None
                if not left or self._ended:
                    raise died_over(item) from error
        raise AssertionError

    def end(self) -> None:
        for work in list(self.at_end):
            work.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        try:
            with self._lock:
                self._ended = True
        finally:
            self._server.close()  # those that wait for an answer hear of it
        self._threads.shutdown()
        for channel in self._channels:
            channel.let_go()


class _Shared:
    """The workers of this process: made when they are needed, and ended with the last block that holds them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._holders = 0
        self._workers: _Workers | None = None

    def enter(self) -> None:
        with self._lock:
            self._holders += 1

    def leave(self) -> None:
        with self._lock:
            self._holders = max(0, self._holders - 1)  # a fork may be in a block that was not its own
            if self._holders or self._workers is None:
                return
            ending, self._workers = self._workers, None
        ending.end()

    def workers(self) -> _Workers:
        with self._lock:
            if self._workers is None:
                self._workers = _Workers(count_workers())
            return self._workers


_SHARED = _Shared()
os.register_at_fork(after_in_child=_SHARED.__init__)  # type: ignore[misc]  # what it had stays its parent's


def died_over(item: object) -> UserError:
    """What to say of an item at which all attempts ended so."""
    return UserError(
        f"{ATTEMPTS} worker processes died over {getattr(item, 'path', item)}: expected enough memory for one for each "
        f"CPU"
    )


def count_workers() -> int:
    """How many processes this one has work for at a time: one a CPU, shared among the ranks of a machine."""
    return max(1, min(MAX_WORKERS, usable_cpus() // local_world_size()))


def _ask(channel: Channel, function: Callable[[Any], Any], item: Any) -> Any:
    """Has a worker call a function, and returns or raises what it did."""
    with memory_file() as arrays:
        channel.send((function, item), arrays)
        answer: _Answer = channel.receive()[0]
        memory = memoryview(map_memory(arrays) if answer.sizes else b"")
    ends = accumulate(answer.sizes, initial=0)
    result = pickle.loads(answer.content, buffers=[memory[begin:end] for begin, end in pairwise(ends)])
    if answer.trace:
        raise result from InWorkerError(answer.trace)
    return result


class InWorkerError(Exception):
    """Where in a worker an error was raised; it is another one's cause."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


class _Answer(NamedTuple):
    """What a call came to.

    Attributes:
        content: the pickled result, or error.
        sizes: in bytes, of the arrays that are in the memory.
        trace: of an error; empty for a result.
    """

    content: bytes
    sizes: list[int]
    trace: str = ""


def _serve(channel: Channel) -> None:
    """What a worker does, until nobody is there any more."""
    while True:
        (function, item), (arrays,) = channel.receive(descriptors=1)
        try:
            answer = _call(function, item, arrays)
        except Exception as error:
            answer = _Answer(pickled(error), [], traceback.format_exc())
        finally:
            os.close(arrays)
        channel.send(answer)


def _call(function: Callable[[Any], Any], item: Any, arrays: int) -> _Answer:
    apart: list[memoryview] = []

    def keep_in_message(buffer: pickle.PickleBuffer) -> bool:
        is_small = buffer.raw().nbytes < LEAST_APART
        apart.extend([] if is_small else [buffer.raw()])
        return is_small

    content = pickle.dumps(function(item), protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=keep_in_message)
    write(arrays, apart)
    return _Answer(content, [one.nbytes for one in apart])


def pickled(error: Exception) -> bytes:
    """An error as bytes, or, where it cannot be pickled, what it says."""
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
    except Exception:  # of whatever it holds, or is made of
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return content
