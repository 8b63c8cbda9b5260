"""What the tests of `Stream` have processes do, apart from them, so that those import no more than this."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vjepa_mlflow.runtime.streams import Allocate


def count_to(number: int, _: Allocate) -> Iterator[int]:
    yield from range(number)


def arrays_of(size: int, allocate: Allocate) -> Iterator[np.ndarray]:
    for value in range(3):
        memory = allocate(size)
        memory[:] = value
        yield memory


def grow(size: int, allocate: Allocate) -> Iterator[int]:
    for times in (1, 2, 3):
        yield len(allocate(times * size))


def forget_to_allocate(size: int, _: Allocate) -> Iterator[np.ndarray]:
    yield np.zeros(size, np.uint8)


def fail(item: str, _: Allocate) -> Iterator[str]:
    yield item
    float(item)


def die(_: int, __: Allocate) -> Iterator[int]:
    yield 1
    os._exit(1)


@dataclass(frozen=True)
class DieOnce:
    """Dies over its second result, the first time."""

    folder: Path

    def __call__(self, item: int, _: Allocate) -> Iterator[int]:
        yield item
        if not (mark := self.folder / f"{item}").exists():
            mark.touch()
            os._exit(1)
        yield -item
