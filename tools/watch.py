"""What a server and its processes take of a machine."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

BROKEN = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)


class Memory:
    """Looks at a server's memory again and again, in a thread, and ends the server before it takes the machine's.

    Attributes:
        most: MiB at most since it was set.
        is_watching: whether there is a server to look at.
        end: why there is none any more.
    """

    def __init__(self, process: psutil.Process, *, kill_at: float):
        self.most, self.is_watching, self.end = 0.0, True, ""
        self._process, self._kill_at = process, kill_at
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def family(self) -> list[psutil.Process]:
        """The server and its processes; none where it is gone."""
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def now(self) -> float:
        """MiB that the server and its processes have of their own, and in files in memory."""
        family = self.family()
        return sum(map(own_memory, family)) + memory_files(family)

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while self.is_watching and not self._over.wait(0.1):
            self.most = max(self.most, taken := self.now())
            if taken > self._kill_at:
                self.is_watching, self.end = False, f"ended at {taken:.0f} MiB"
                end_children()
            elif _statuses([self._process]).get(self._process, psutil.STATUS_ZOMBIE) == psutil.STATUS_ZOMBIE:
                self.is_watching, self.end = False, "the server died"


def own_memory(process: psutil.Process) -> float:
    """MiB of a process alone; none of one that has just ended."""
    with suppress(psutil.Error):
        return float(process.memory_full_info().uss) / 2**20
    return 0.0


def memory_files(family: Sequence[psutil.Process]) -> float:
    """MiB of files in memory that processes hold open; who only writes to them does not have them as its own."""
    sizes = {}
    for process in family:
        with suppress(OSError):
            for entry in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(OSError):
                    if str(entry.readlink()).startswith("/memfd:"):
                        found = entry.stat()
                        sizes[found.st_ino] = found.st_blocks * 512
    return sum(sizes.values()) / 2**20


def end_children() -> None:
    """Ends the server, and the programs that started it."""
    for process in (family := psutil.Process().children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=10)


def broken(family: Sequence[psutil.Process]) -> list[str]:
    """What is stopped or dead of some processes, and still is a second later."""
    found = _statuses(family)
    time.sleep(1)
    lasting = Counter(status for process, status in _statuses(family).items() if found.get(process) == status)
    return [f"{lasting[status]} {status}" for status in BROKEN if lasting[status]]


def _statuses(family: Sequence[psutil.Process]) -> dict[psutil.Process, str]:
    found = {}
    for process in family:
        with suppress(psutil.NoSuchProcess):
            found[process] = process.status()
    return found
