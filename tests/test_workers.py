import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from helpers import environment, wait_until, write_video

from vjepa_mlflow import UserError, workers
from vjepa_mlflow.processes import FROM_TERMINALS
from vjepa_mlflow.workers import WorkerPool


def test_results_come_in_order() -> None:
    pool: WorkerPool[float, float] = WorkerPool(abs)
    assert list(pool.map([-float(number) for number in range(50)])) == [float(number) for number in range(50)]
    assert list(pool.map([])) == []


def test_a_pool_goes_on_after_a_reading_that_was_given_up() -> None:
    pool: WorkerPool[int, int] = WorkerPool(abs)
    results = pool.map(range(100))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]
    assert list(pool.map([-7, -8])) == [7, 8]


def test_tensors_and_errors_come_back() -> None:
    tensors: WorkerPool[int, torch.Tensor] = WorkerPool(torch.arange)
    (one,) = tensors.map([3])
    assert torch.equal(one, torch.arange(3))
    numbers: WorkerPool[str, float] = WorkerPool(float)
    with pytest.raises(ValueError, match="could not convert string to float: 'text'"):
        list(numbers.map(["text"]))


def test_work_never_runs_far_ahead() -> None:
    taken = []

    def items() -> object:
        for number in range(1000):
            taken.append(number)
            yield number

    results = WorkerPool(abs).map(items())  # type: ignore[arg-type]
    next(results)
    assert len(taken) < 500
    results.close()  # type: ignore[attr-defined]


def test_no_process_is_started_for_nothing() -> None:
    workers._workers.cache_clear()
    before = set(multiprocessing.active_children())
    pool: WorkerPool[int, int] = WorkerPool(abs)
    assert list(pool.map([])) == []
    assert set(multiprocessing.active_children()) <= before


@dataclass(frozen=True)
class Count:
    """Leaves a file for each call, so that one sees how often an item was worked on, and when."""

    folder: Path

    def __call__(self, number: int) -> int:
        os.close(tempfile.mkstemp(prefix=f"{number}-", dir=self.folder)[0])
        return -number

    def calls(self, number: int) -> int:
        return len(list(self.folder.glob(f"{number}-*")))


def test_what_follows_is_begun_before_it_is_asked_for_and_done_once(tmp_path: Path) -> None:
    count = Count(tmp_path)
    pool: WorkerPool[int, int] = WorkerPool(count)
    assert list(pool.map([1, 2], following=[3, 4])) == [-1, -2]
    wait_until(lambda: count.calls(3) == count.calls(4) == 1)
    assert list(pool.map([4, 3, 5], following=[6])) == [-4, -3, -5]
    wait_until(lambda: count.calls(6) == 1)
    assert list(pool.map([7])) == [-7]  # 6 was not asked for, and is forgotten
    assert list(pool.map([6])) == [-6]
    assert [count.calls(number) for number in range(1, 8)] == [1, 1, 1, 1, 1, 2, 1]


def test_what_is_begun_early_is_done_once(tmp_path: Path) -> None:
    count = Count(tmp_path)
    pool: WorkerPool[int, int] = WorkerPool(count)
    pool.begin(range(1000))
    pool.begin(range(1000))
    wait_until(lambda: count.calls(0) == 1)
    assert len(list(tmp_path.iterdir())) < 500
    assert list(pool.map([0, 1])) == [0, -1]
    assert [count.calls(number) for number in range(2)] == [1, 1]


def test_after_a_death_the_next_pool_has_new_workers() -> None:
    with pytest.raises(UserError):
        list(WorkerPool(os._exit).map([1]))  # type: ignore[arg-type]
    pool: WorkerPool[int, int] = WorkerPool(abs)
    assert list(pool.map([-1])) == [1]


def test_what_follows_does_not_run_far_ahead_either(tmp_path: Path) -> None:
    count = Count(tmp_path)
    pool: WorkerPool[int, int] = WorkerPool(count)
    assert list(pool.map([0], following=range(1, 1000))) == [0]
    assert list(pool.map([0])) == [0]
    assert len(list(tmp_path.iterdir())) < 500


def test_a_worker_that_dies_is_one_clear_error() -> None:
    pool: WorkerPool[int, int] = WorkerPool(os._exit)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"a worker process died \(A process in the process pool was terminated"):
        list(pool.map([1]))


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(WorkerPool(abs).map([-1, -2]))
    assert torch.equal(torch.rand(3), expected)


def test_little_shared_memory_means_one_process_and_a_remark(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "LEAST_SHARED_MEMORY", 1 << 60)
    workers._count_workers.cache_clear()
    workers._workers.cache_clear()
    before = set(multiprocessing.active_children())
    try:
        pool: WorkerPool[int, int] = WorkerPool(abs)
        assert list(pool.map([-1, -2])) == [1, 2]
        assert set(multiprocessing.active_children()) <= before
        WorkerPool(abs)
    finally:
        workers._count_workers.cache_clear()
        workers._workers.cache_clear()
    told = capsys.readouterr().err
    assert told.count("Videos are read one at a time: /dev/shm has less") == 1


SCRIPT = """
from pathlib import Path
from vjepa_mlflow.video import Sampling, inspect_videos

print("once", flush=True)
print(len(inspect_videos([Path("clip.mp4")], Sampling(16, 4))[0].finding.digest))
"""


def test_a_script_without_a_main_guard_runs_once(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.stdout.split() == ["once", "64"], done.stderr


def test_workers_leave_interrupts_to_their_consumer_from_their_birth_on() -> None:
    blocked = WorkerPool(functools.partial(signal.pthread_sigmask, signal.SIG_BLOCK)).map([frozenset()])
    assert next(blocked) >= FROM_TERMINALS
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & FROM_TERMINALS


BUSY = """
import os, signal, sys, time
from vjepa_mlflow.workers import WorkerPool

results = WorkerPool(time.sleep).map([0, 0, 1, 1])
next(results), next(results)
print("busy", flush=True)
os.killpg(0, signal.Signals(int(input())))
next(results)
"""
"""Sends itself the signal that it is told, as a terminal would, in the middle of the work."""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_consumer(tmp_path: Path, how: signal.Signals) -> None:
    script = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert script.stdout is not None
    assert script.stdout.readline() == "busy\n"
    workers = psutil.Process(script.pid).children(recursive=True)
    if how == signal.SIGKILL:
        script.kill()  # it alone
        _, errors = script.communicate(timeout=60)
    else:
        _, errors = script.communicate(f"{how}\n", timeout=60)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert workers
    assert alive == []
    assert errors.count("Traceback") == (1 if how == signal.SIGINT else 0), errors


HUNG_UP = """
import os, signal, time
from vjepa_mlflow.interrupts import gentle_interrupts
from vjepa_mlflow.workers import WorkerPool

with gentle_interrupts() as asked:
    results = WorkerPool(time.sleep).map([0, 0, 0.5, 0.5])
    next(results)
    os.killpg(0, signal.SIGHUP)
    assert asked()
    print(list(results))
print(list(WorkerPool(abs).map([-1])))
"""
"""Goes on after what a terminal that is closed sends to all."""


def test_workers_and_what_starts_them_outlast_a_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HUNG_UP],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert (done.stdout, done.stderr) == ("[None, None, None]\n[1]\n", "")
