"""The CPUs that this process may use, and how threads share them with other processes."""

import math
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from vjepa_mlflow.runtime.ranks import local_world_size

CPUS = Path("/sys/devices/system/cpu")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
GROUPS_OF_THIS_PROCESS = Path("/proc/self/cgroup")

AFFINITY: Collection[int] = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
"""The CPUs that this process was given. OpenMP, told to bind threads, binds the one that loads it to one of them."""

SPIN_COUNT = "1000"
"""Turns that an idle thread of GNU's OpenMP, which PyTorch's wheels have, waits before it sleeps; by itself 300,000.

On two cores, two trainings of two threads each took side by side 1.3 to 1.4 times as long as one; without this, 2.2 to
5.4. What it costs a training that is alone was not told from noise."""

VALUES_OF_A_THREAD = 50_000
"""Of a clip's features, from which on one thread more is worth waking for each operation.

With the spin count above two threads took, to encode a clip, 2.5 times as long as one where it had 0.2 times this, as
long where it had 1 to 2 times, 0.7 times as long at 6 and 0.56 at 24 (two idle cores).
"""


def usable_cpus() -> int:
    """CPUs that this process may use: those of its affinity, and no more than the quota of its control groups.

    A part of a CPU counts as one. In a container these are often fewer than the machine has.
    """
    return _within_quota(len(AFFINITY))


def thread_count(values: int | None = None, processes: int | None = None) -> int:
    """Threads for the computations of one of several processes on this machine, whatever else it is doing now.

    One for each core, as PyTorch by itself has it, though without regard to quotas: two threads of one core share what
    computes. Where a model computes, no more than one for each `VALUES_OF_A_THREAD` of its features: an operation of a
    small one is over before another thread wakes. Results depend on the count in their last bits, since sums of other
    parts round differently.

    Args:
        values: of the features of the model's clip; None where no model computes.
        processes: that share the cores; by default those that a launcher started on this machine.

    Returns:
        `OMP_NUM_THREADS` where it is set, as `torchrun` does, otherwise as many as that.
    """
    ordered = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if ordered.isdecimal() and int(ordered) > 0:
        return int(ordered)
    cores = _within_quota(len({_siblings(cpu) for cpu in AFFINITY}))
    own = cores // (processes or local_world_size())
    return max(1, own if values is None else min(own, values // VALUES_OF_A_THREAD))


def let_idle_threads_sleep() -> None:
    """Has threads that wait for work leave their CPU to others. Takes effect before PyTorch is imported alone.

    For a process that is ours, and those that it starts: it sets an environment variable, unless the user has.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


def _siblings(cpu: int) -> str:
    """The CPUs of the same core, of which it is one; by itself where the system does not say."""
    with suppress(OSError):
        return (CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
    return str(cpu)


def _within_quota(count: int) -> int:
    return max(1, min([count, *map(math.ceil, _quotas())]))


def _quotas() -> Iterator[float]:
    """How many CPUs each control group of this process is held to, as far as it is."""
    for group in _groups():
        with suppress(OSError, ValueError, ArithmeticError):  # it has none, or another system's words
            quota, period = map(float, _quota_and_period(group))
            if 0 < quota / period < math.inf:
                yield quota / period


def _quota_and_period(group: Path) -> list[str]:
    """Microseconds, in version 2 of control groups or 1; for no quota a word, or a number below 0."""
    if (group / "cpu.max").is_file():
        return (group / "cpu.max").read_text().split()
    return [(group / name).read_text() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]


def _groups() -> Iterator[Path]:
    """The groups of this process, and those above them.

    In a container the path may be the host's: of its folders the root alone is there.
    """
    with suppress(OSError, ValueError):
        for line in GROUPS_OF_THIS_PROCESS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            mounts = (controllers, "cpu") if controllers else ("", "unified")  # version 2 has no names of controllers
            if not controllers or "cpu" in controllers.split(","):
                inner = Path(path.lstrip("/"))
                yield from (CONTROL_GROUPS / mount / part for mount in mounts for part in (inner, *inner.parents))
