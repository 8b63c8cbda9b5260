"""Files that somebody else may have put there: no pipe or device is waited for, small ones are bounded."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO


class NotAFileError(OSError, ValueError):
    """What is there is a folder, a pipe, a socket or a device: opening it may wait for ever, and have effects."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "not a file")

    def __str__(self) -> str:
        return "not a file"

    def __reduce__(self) -> tuple[type["NotAFileError"], tuple[()]]:
        return NotAFileError, ()  # as pickle is to make it again


def open_regular(path: Path) -> BinaryIO:
    """Opens a file, or one that a link leads to, for reading; what has become something else meanwhile is not either.

    Raises:
        NotAFileError: it is something else.
        OSError: it cannot be read, or is not there.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # looked at first, since opening a device may have effects
        raise NotAFileError
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFileError
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, *, at_most: int) -> bytes:
    """The content of a regular file, or of one that a link leads to.

    Args:
        path: the file.
        at_most: bytes.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        ValueError: it is something else than a file, or larger.
    """
    with open_regular(path) as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise ValueError(f"larger than {at_most >> 20} MiB")
    return content


def read_json(path: Path, *, at_most: int) -> Any:
    """What is in a JSON file; raises as `read_bounded` does, and ValueError for what is no JSON."""
    content = read_bounded(path, at_most=at_most)
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
