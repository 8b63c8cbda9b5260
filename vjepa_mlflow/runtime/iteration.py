"""Going through many items: several at once, one ahead, in batches, with a progress bar."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

from vjepa_mlflow.runtime.cpus import usable_cpus
from vjepa_mlflow.terminal.bars import Bar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int = 0
) -> Generator[Result, None, None]:
    """Maps over items in threads, yielding in their order, never more than `ahead` items before the consumer.

    Threads serve here because FFmpeg, hashing and tensor arithmetic all run outside Python's lock.
    """
    items = iter(items)
    first = list(islice(items, 2))
    if len(first) == 1:  # a thread would take longer to start
        yield function(first[0])
        return
    workers = usable_cpus()
    ahead = ahead or 2 * workers
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers)  # which starts no thread before there is work
    try:
        for item in chain(first, items):
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def progress(items: Iterable[Item], *, total: int, description: str, unit: str, initial: int = 0) -> Iterator[Item]:
    """Shows a bar with a rate while items pass, after so many at first; silent where the output is no terminal."""
    return iter(Bar.shown(items, total=total, initial=initial, desc=description, unit=unit, leave=False))


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yields lists of `size` items; the last one may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
