"""Work for several processes: items in, results out in their order, ahead of whoever takes them."""

import functools
import multiprocessing
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader

from vjepa_mlflow.errors import UserError, one_line, remark
from vjepa_mlflow.iteration import usable_cpus
from vjepa_mlflow.ranks import local_world_size

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 32
AHEAD = 2
"""Results that a worker has ready before they are wanted."""

SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_MEMORY = 1 << 30
"""In bytes. Containers often get 64 MiB, in which worker processes die while they pass frames on."""


class WorkerPool(Generic[Item, Result]):
    """Maps a function over items in worker processes, which stay for the pool's lifetime.

    Tensors come back through shared memory. Workers are started by a server process that never held a GPU, a decoder
    or a lock, since what a process holds when it forks may hang its children.

    Args:
        function: a picklable callable, whose module is imported in each worker. What it raises stops the consumer with
            a message of many lines, so faults that are to be told are better returned.
        pin_memory: copy tensors to page-locked memory, from where a GPU takes them without waiting.
    """

    def __init__(self, function: Callable[[Item], Result], *, pin_memory: bool = False):
        self._items = _Items[Item]()
        workers = _count_workers()
        several: dict[str, Any] = {
            "multiprocessing_context": _fork_server(),
            "prefetch_factor": AHEAD,
            "persistent_workers": True,
        }
        self._loader: DataLoader[Result] = DataLoader(
            _Results(function),  # type: ignore[arg-type]
            sampler=self._items,
            batch_size=None,
            num_workers=workers,
            collate_fn=_unchanged,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # not the caller's, whose random state is left alone
            **(several if workers else {}),
        )

    def map(self, items: Iterable[Item]) -> Iterator[Result]:
        """Yields the function's results in the order of the items, one call after the other.

        Raises:
            UserError: a worker died.
        """
        remaining = iter(items)
        first = list(islice(remaining, 1))
        if not first:
            return  # before a worker is started
        self._items.now = chain(first, remaining)
        try:
            with _without_main():
                results = iter(self._loader)
            yield from results
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"a worker process died ({one_line(error)}): expected enough memory, also in {SHARED_MEMORY}"
            ) from error


class _Items(Generic[Item]):
    """The items of the call in progress. DataLoader takes them for indices."""

    now: Iterable[Item] = ()

    def __iter__(self) -> Iterator[Item]:
        return iter(self.now)


class _Results(Generic[Item, Result]):
    """The function as the mapping from items to results that DataLoader reads."""

    def __init__(self, function: Callable[[Item], Result]):
        self._function = function

    def __getitem__(self, item: Item) -> Result:
        return self._function(item)


def _unchanged(result: Result) -> Result:
    return result


@contextmanager
def _without_main() -> Iterator[None]:
    """Hides the running script from workers that start, each of which would import it and need nothing of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@functools.cache
def _fork_server() -> multiprocessing.context.BaseContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.utils.data", "vjepa_mlflow.video"])
    return context


@functools.cache
def _count_workers() -> int:
    if SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free < LEAST_SHARED_MEMORY:
        remark(
            f"Videos are read one at a time: {SHARED_MEMORY} has less than {LEAST_SHARED_MEMORY >> 30} GiB free, which "
            f"worker processes need; start a container with --shm-size=8g or --ipc=host"
        )
        return 0
    return max(1, min(MAX_WORKERS, usable_cpus() // local_world_size()))
