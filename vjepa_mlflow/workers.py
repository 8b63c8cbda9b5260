"""Work for several processes: items in, results out in their order, ahead of whoever takes them."""

import functools
import shutil
import signal
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from vjepa_mlflow.cpus import usable_cpus
from vjepa_mlflow.errors import UserError, one_line, remark
from vjepa_mlflow.processes import FROM_TERMINALS, end_with_the_parent, fork_server, start_fork_server, without_main
from vjepa_mlflow.ranks import local_world_size

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")

MAX_WORKERS = 32
AHEAD = 2
"""Results for each worker that are ready, or on their way, before they are wanted."""

SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_MEMORY = 1 << 30
"""In bytes. Containers often get 64 MiB, in which worker processes die while they pass frames on."""


class WorkerPool(Generic[Item, Result]):
    """Maps a function over items in worker processes, which start when needed and serve all pools until this one ends.

    Tensors come back through shared memory. Workers are started by a server process that never held a GPU, a decoder
    or a lock, since what a process holds when it forks may hang its children.

    Args:
        function: a picklable callable, whose module is imported in each worker. What it raises is raised to the
            consumer.
        pin_memory: copy tensors to page-locked memory, from where a GPU takes them without waiting.
    """

    def __init__(self, function: Callable[[Item], Result], *, pin_memory: bool = False):
        self._function = function
        self._ahead = AHEAD * max(1, _count_workers())
        self._pinning = ThreadPoolExecutor(1) if pin_memory else None
        self._begun: dict[Item, Future[Result]] = {}

    def begin(self, items: Iterable[Item]) -> None:
        """Starts work on the first items of those that the next call of `map` will be given."""
        for item in islice(items, self._ahead):
            if item not in self._begun:
                self._begun[item] = self._submit(item)

    def map(self, items: Iterable[Item], following: Iterable[Item] = ()) -> Iterator[Result]:
        """Yields the function's results in the order of the items, one call after the other.

        Args:
            items: what to work on.
            following: what the next call is likely to begin with. It is begun as soon as the last of the items is on
                its way, so that the workers never rest; what the next call does not ask for is dropped.

        Raises:
            UserError: a worker died.
        """
        begun, self._begun = self._begun, {}
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(self._take(item, begun))
                if len(waiting) >= self._ahead:
                    yield waiting.popleft().result()
            upcoming = iter(following)
            while waiting:
                result = waiting.popleft().result()
                for item in islice(upcoming, self._ahead - len(waiting) - len(self._begun)):
                    self._begun[item] = self._take(item, begun)
                yield result
        except BrokenProcessPool as error:
            raise _death(error) from error
        finally:
            for unwanted in (*waiting, *begun.values()):
                unwanted.cancel()

    def _take(self, item: Item, begun: "dict[Item, Future[Result]]") -> "Future[Result]":
        return begun.pop(item) if item in begun else self._submit(item)

    def _submit(self, item: Item) -> "Future[Result]":
        try:
            with without_main():
                result = _workers().submit(self._function, item)
        except BrokenProcessPool as error:
            raise _death(error) from error
        return self._pinning.submit(_pinned, result) if self._pinning else result


def _death(error: BrokenProcessPool) -> UserError:
    _workers.cache_clear()  # the next pool gets new ones
    return UserError(f"a worker process died ({one_line(error)}): expected enough memory, also in {SHARED_MEMORY}")


def _pinned(future: "Future[Any]") -> Any:
    import torch

    result = future.result()
    return result.pin_memory() if isinstance(result, torch.Tensor) else result


@functools.cache
def _workers() -> Executor:
    count = _count_workers()
    if count == 0:
        return ThreadPoolExecutor(1)
    context = fork_server()
    start_fork_server()
    return ProcessPoolExecutor(count, mp_context=context, initializer=_prepare_worker)


def end_workers() -> None:
    """Ends the worker processes of this process, where it has any. It would wait for them at its own end."""
    if _workers.cache_info().currsize:
        _workers().shutdown(cancel_futures=True)
        _workers.cache_clear()


def _prepare_worker() -> None:
    for number in FROM_TERMINALS:
        signal.signal(number, signal.SIG_IGN)  # where the user's own fork server was there first
    import torch

    torch.set_num_threads(1)
    end_with_the_parent()


@functools.cache
def _count_workers() -> int:
    if SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free < LEAST_SHARED_MEMORY:
        remark(
            f"Videos are read one at a time: {SHARED_MEMORY} has less than {LEAST_SHARED_MEMORY >> 30} GiB free, which "
            f"worker processes need; start a container with --shm-size=8g or --ipc=host"
        )
        return 0
    return max(1, min(MAX_WORKERS, usable_cpus() // local_world_size()))
