"""Small files that somebody else may have written: bounded, and never a pipe or a device that would be waited for."""

import json
import stat
from pathlib import Path
from typing import Any


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
    check_regular(path)
    with path.open("rb") as file:
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


def check_regular(path: Path) -> None:
    """Refuses what is no file: opening a pipe waits for its writer, and a device may have no end.

    Raises:
        OSError: there is nothing, or nothing that may be looked at.
        ValueError: it is no file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a file")
