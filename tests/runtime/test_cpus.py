import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import environment

from vjepa_mlflow.runtime import cpus
from vjepa_mlflow.runtime.cpus import let_idle_threads_sleep, thread_count, usable_cpus


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of eight CPUs, two to a core, all of them this process's, with control groups of the test's own."""
    monkeypatch.setattr(cpus, "CPUS", tmp_path / "cpus")
    monkeypatch.setattr(cpus, "CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cpus, "GROUPS_OF_THIS_PROCESS", tmp_path / "self")
    monkeypatch.setattr(cpus, "AFFINITY", set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for cpu in range(8):
        siblings = tmp_path / "cpus" / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        siblings.parent.mkdir(parents=True)
        siblings.write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


MANY = 2_000_000
"""Values of a clip's features that keep any number of threads busy."""

VERSION_1 = "5:cpu,cpuacct:/jobs/one\n2:cpuset:/jobs/other\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"self": "0::/\n", "groups/cpu.max": "max 100000\n"}, 8),
        ({"self": "0::/\n", "groups/cpu.max": "300000 100000\n"}, 3),
        ({"self": "0::/\n", "groups/cpu.max": "150000 100000\n"}, 2),
        ({"self": "0::/\n", "groups/cpu.max": "10000 100000\n"}, 1),
        ({"self": "0::/\n", "groups/cpu.max": "6400000 100000\n"}, 8),
        ({"self": "0::/a/b\n", "groups/a/b/cpu.max": "200000 100000\n"}, 2),
        ({"self": "0::/a/b\n", "groups/a/b/cpu.max": "max 100000\n", "groups/a/cpu.max": "500000 100000\n"}, 5),
        ({"self": "0::/docker/0123\n", "groups/cpu.max": "200000 100000\n"}, 2),  # a container sees its own as the root
        ({"self": "0::/a\n", "groups/unified/a/cpu.max": "200000 100000\n"}, 2),
        (
            {
                "self": VERSION_1,
                "groups/cpu,cpuacct/jobs/one/cpu.cfs_quota_us": "400000\n",
                "groups/cpu,cpuacct/jobs/one/cpu.cfs_period_us": "200000\n",
            },
            2,
        ),
        ({"self": VERSION_1, "groups/cpu/cpu.cfs_quota_us": "-1\n", "groups/cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"self": VERSION_1, "groups/cpu/cpu.cfs_quota_us": "50000\n", "groups/cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"self": VERSION_1, "groups/cpuset/jobs/other/cpu.max": "100000 100000\n"}, 8),
        ({"self": "no such thing", "groups/cpu.max": "100000 100000\n"}, 8),
        ({"self": "0::/\n", "groups/cpu.max": "what\n"}, 8),
        ({"self": "0::/\n", "groups/cpu.max": "inf 100000\n"}, 8),
    ],
)
def test_a_quota_bounds_the_cpus(machine: Path, files: dict[str, str], expected: int) -> None:
    write(machine, files)
    assert usable_cpus() == expected
    assert thread_count(MANY) == min(4, expected)


def test_threads_are_as_many_as_cores_divided_among_processes(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert thread_count(MANY) == 4
    assert [thread_count(MANY, processes) for processes in (1, 2, 3, 9)] == [4, 2, 1, 1]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert thread_count(MANY) == 2
    monkeypatch.setattr(cpus, "AFFINITY", {0, 4, 1})
    assert (usable_cpus(), thread_count(MANY, 1)) == (3, 2)


@pytest.mark.parametrize(("thousands", "expected"), [(18, 1), (99, 1), (100, 2), (199, 3), (2097, 4)])
def test_a_small_model_has_no_more_threads_than_are_worth_waking(machine: Path, thousands: int, expected: int) -> None:
    assert thread_count(thousands * 1000) == expected


@pytest.mark.parametrize(("ordered", "expected"), [("3", 3), ("2,1", 2), ("", 1), ("0", 1), ("many", 1), ("-1", 1)])
def test_a_user_may_order_the_threads(
    machine: Path, monkeypatch: pytest.MonkeyPatch, ordered: str, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", ordered)
    assert thread_count(18_432) == expected


def test_affinity_bounds_the_cpus() -> None:
    (cpu, *_) = os.sched_getaffinity(0)
    program = f"import os; os.sched_setaffinity(0, [{cpu}]); from vjepa_mlflow.runtime import cpus; "
    program += "print(cpus.usable_cpus(), cpus.thread_count(2_000_000))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(OMP_NUM_THREADS=""), capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 1\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, cpus.SPIN_COUNT), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_idle_threads_sleep_unless_the_user_has_said_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: str | None
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    let_idle_threads_sleep()
    assert os.environ.get("GOMP_SPINCOUNT") == expected
