"""What a fork of a process that has computed cannot do: OpenMP's threads and CUDA stay with their first process."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.internals.torch_private import is_fork_without_gpu

Result = TypeVar("Result")

SECONDS_TO_ADD = 10
"""For which it is tried whether numbers can be added up in parallel: in vain, where OpenMP waits for threads."""

PAUSE = 0.01


class _Process:
    """This one."""

    is_fork = False

    @classmethod
    def note_fork(cls) -> None:
        cls.is_fork = True


os.register_at_fork(after_in_child=_Process.note_fork)


def check_fork(job: str) -> None:
    """Refuses to compute in a fork that cannot, and would wait for ever.

    Args:
        job: what is to be done, as the user calls it.

    Raises:
        UserError: the process that was forked had computed, with several threads or on a GPU.
    """
    if not _Process.is_fork or "torch" not in sys.modules:
        return
    if is_fork_without_gpu() or not _adds_in_parallel():
        raise UserError(
            f"{job}: this process was forked from one that PyTorch had computed in, whose threads and GPUs it cannot "
            f"use: expected a new one (multiprocessing's spawn), or a fork from before that"
        )
    _Process.is_fork = False


def call_apart(function: Callable[[], Result]) -> Result:
    """Calls a function that computes on the CPU in a new thread, whose threads of OpenMP's no fork had or will miss."""
    called: Future[Result] = Future()

    def call() -> None:
        try:
            called.set_result(function())
        except BaseException as error:
            called.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return called.result()


def check_gpu(job: str) -> None:
    """Refuses a GPU to a fork of a process that has used one.

    Args:
        job: what is to be done, as the user calls it.

    Raises:
        UserError: this is one.
    """
    if is_fork_without_gpu():
        raise UserError(
            f"{job}: this process was forked from one that had used a GPU, which it so cannot use: expected a new one "
            f"(multiprocessing's spawn), a fork from before the first prediction, or device=cpu"
        )


def _adds_in_parallel() -> bool:
    """Tries it in a fork of this one, which can be killed."""
    import torch

    process = os.fork()
    if not process:
        try:
            torch.ones(1 << 20).sum()
        finally:
            os._exit(0)
    deadline = time.monotonic() + SECONDS_TO_ADD
    with suppress(ChildProcessError):  # where nobody is to wait for children, they are gone once they have ended
        while os.waitpid(process, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return False
            time.sleep(PAUSE)
    return True
