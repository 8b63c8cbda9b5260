"""How processes of ours start, and that none outlives the one that it works for."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import ModuleType

FROM_TERMINALS = frozenset({signal.SIGINT, signal.SIGHUP})
"""What a terminal sends to all processes that it shows: at a Ctrl-C, and when it is closed."""

VIDEO = ("vjepa_mlflow.video.preflight", "vjepa_mlflow.video.reader")
"""What most processes work at."""


def fork_server() -> ForkServerContext:
    """Starts processes from one that never held a GPU, a decoder or a lock: what is held at a fork may hang a child."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "vjepa_mlflow.workers", *VIDEO])
    return context


def start_fork_server() -> None:
    """Starts the fork server, which is deaf to interrupts, as its children are then, and returns before it is ready."""
    with deaf_to_interrupts():
        resource_tracker.ensure_running()  # which the fork server would start, and whose start has SIGINT heard again
    with deaf_to_interrupts():
        forkserver.ensure_running()


def importable(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which Python finds this package, wherever this process has it from."""
    paths = [str(Path(__file__).parent.parent), environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@contextmanager
def without_main() -> Iterator[None]:
    """Hides the running script from processes that start, each of which would import it and need nothing of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes that start in the block do not hear what a terminal sends to all: this process decides for them.

    Were it left to them to ignore it, one that has only just begun would die of it, with a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])  # apart, since an interrupt may come out of the next one
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, FROM_TERMINALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear_interrupts() -> None:
    """In a process that was started deaf: what has been sent meanwhile interrupts it now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FROM_TERMINALS)


def end_with_the_parent() -> None:
    """Has this process end when the one that started it is killed, and would leave it waiting for work for ever."""
    threading.Thread(target=_wait_for_the_parent, daemon=True).start()


def _wait_for_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
