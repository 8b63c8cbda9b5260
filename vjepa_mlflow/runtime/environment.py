"""Variables of the environment, for a while."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def temporary_environment(name: str, value: str) -> Iterator[None]:
    """Sets an environment variable during the block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
