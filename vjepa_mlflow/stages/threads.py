"""How many threads a run computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vjepa_mlflow import model, tracking

CPU_THREADS = "cpu_threads"
"""The parameter of a run that says how many."""


@contextmanager
def threads_of_run(log: tracking.RunLog, count: int) -> Iterator[None]:
    """Has PyTorch compute with so many threads in the block, and logs it.

    A run that goes on keeps the count that it began with, on which the last bits of its head depend.
    """
    begun_with = log.params_before.get(CPU_THREADS, "")
    if begun_with.isdecimal() and int(begun_with) > 0:
        count = int(begun_with)
    log.params({CPU_THREADS: count})
    with model.cpu_threads(count):
        yield
