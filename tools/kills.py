"""Kills a process before each call that changes a file of ours, one after the other, and looks whether the next goes on.

    python -m tools.kills

Of a delivery (entries of every kind, to a real `mlflow server` behind a proxy that is cut in between), of an upload of
what a run left, and of a training's checkpoints. Not by chance: the calls are counted, and a child that is forked for
each of them, with everything imported, is killed before it; of a write, when half of it is done. Another child then does
the same work again, and all must be there, once.
"""

import builtins
import io
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHANGES = ("fsync", "link", "mkdir", "remove", "rename", "replace", "rmdir", "symlink", "truncate", "unlink")
"""Of `os`, and what writes to files that were opened."""

Holds = Callable[[str], bool]


class Countdown:
    """Kills this process before the call of a number that changes one of some files.

    Args:
        number: of the call, from 1.
        concerns: whether a path is of those that count.
    """

    def __init__(self, number: int, concerns: Holds):
        self._left = number
        self._concerns = concerns

    def is_over(self, path: object) -> bool:
        """Counts a call that changes a file; whether it is the one."""
        if not isinstance(path, str | bytes | os.PathLike) or not self._concerns(os.path.abspath(os.fsdecode(path))):
            return False
        self._left -= 1
        return self._left == 0

    def count(self, path: object) -> None:
        if self.is_over(path):
            die()

    def install(self) -> None:
        """Has the calls of this process counted, until its end."""
        for name in CHANGES:
            setattr(os, name, self._counted(getattr(os, name)))
        opened = builtins.open

        def open_counted(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if not set(mode) & set("wax+") or isinstance(file, int):
                return opened(file, mode, *arguments, **named)
            self.count(file)
            raw = _CountedFile(file, mode.replace("t", "").replace("b", ""), self)
            buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return buffer
            text = {name: value for name, value in named.items() if name in ("encoding", "errors", "newline")}
            return io.TextIOWrapper(buffer, **text)

        builtins.open = io.open = open_counted  # type: ignore[assignment]

    def _counted(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: Any, *arguments: Any, **named: Any) -> Any:
            folder = named.get("dir_fd")  # as `shutil.rmtree` has it
            where = path if folder is None else os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
            self.count(where)
            return change(path, *arguments, **named)

        return counted


class _CountedFile(io.FileIO):
    def __init__(self, file: Any, mode: str, countdown: Countdown):
        super().__init__(file, mode)
        self._countdown = countdown

    def write(self, data: Any) -> int:
        if self._countdown.is_over(self.name):
            super().write(memoryview(data)[: len(memoryview(data)) // 2])
            die()
        return super().write(data)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def is_killed(action: Callable[[], None], number: int, concerns: Holds) -> bool:
    """Does something in a child that is killed before its change of a number; whether it came so far.

    Raises:
        RuntimeError: it failed of itself.
    """
    child = os.fork()
    if not child:
        try:
            if number:
                Countdown(number, concerns).install()
            action()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status:
        raise RuntimeError(f"a child that was to be killed before change {number} failed")
    return False


def do(action: Callable[[], None]) -> None:
    """Does something in a child that is left alone."""
    is_killed(action, 0, lambda _: False)


def kill_before_each(action: Callable[[], None], concerns: Holds) -> Iterator[int]:
    """Yields after each kill, until the action comes to its end before it would be killed."""
    number = 1
    while is_killed(action, number, concerns):
        yield number
        number += 1


@contextmanager
def own_cache(folder: Path) -> Iterator[Path]:
    """An empty cache for the block, which the processes of it share."""
    before = os.environ.get("VJEPA_MLFLOW_CACHE")
    os.environ["VJEPA_MLFLOW_CACHE"] = str(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("VJEPA_MLFLOW_CACHE")
        if before is not None:
            os.environ["VJEPA_MLFLOW_CACHE"] = before
