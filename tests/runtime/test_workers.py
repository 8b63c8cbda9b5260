import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from helpers import environment, read_clips, write_video

from vjepa_mlflow import UserError
from vjepa_mlflow.evaluation.thumbnails import read_thumbnails
from vjepa_mlflow.files.digest import sha256
from vjepa_mlflow.runtime import workers
from vjepa_mlflow.runtime.workers import WorkerPool, worker_processes
from vjepa_mlflow.video import Sampling, VideoError, VideoFile, inspect_videos, measure_videos


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


@pytest.mark.parametrize("size", [3, 1 << 20])
def test_arrays_and_errors_come_back(size: int) -> None:
    arrays: WorkerPool[int, np.ndarray] = WorkerPool(np.arange)
    assert [array.__iadd__(1).sum() for array in arrays.map([size, 0])] == [size * (size + 1) // 2, 0]
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


def test_a_worker_that_dies_is_one_clear_error_and_others_take_its_place() -> None:
    pool: WorkerPool[int, int] = WorkerPool(os._exit)  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(UserError, match="2 worker processes died over 1: expected enough memory"):
            list(pool.map([1]))
    assert list(WorkerPool(abs).map([-1] * 9)) == [1] * 9


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(WorkerPool(abs).map([-1, -2]))
    assert torch.equal(torch.rand(3), expected)


def test_whatever_is_done_with_videos_needs_no_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_SHARED", workers._Shared())  # the session's have imported test modules
    monkeypatch.setattr(workers, "usable_cpus", lambda: 1)
    path, sampling = write_video(tmp_path / "clip.mp4"), Sampling(16, 4)
    files = [VideoFile(path, sha256([path]))]
    with worker_processes():
        assert not inspect_videos([path], sampling)[0].fault
        read = [*read_clips([path], sampling, 0.5), *read_thumbnails(files, sampling, kept=None)]
        read += measure_videos(files, sampling)
        assert not any(isinstance(one, VideoError) for one in read)
        has_torch, threads = "'torch' in __import__('sys').modules", "len(__import__('os').listdir('/proc/self/task'))"
        assert list(WorkerPool(eval).map([has_torch, threads])) == [False, 1]


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


BUSY = """
import time
from vjepa_mlflow.runtime.workers import WorkerPool

results = WorkerPool(time.sleep).map([0, 0, 1, 1])
next(results), next(results)
print("busy", flush=True)
next(results)
"""


def test_workers_end_with_their_consumer_when_it_is_killed(tmp_path: Path) -> None:
    script = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert script.stdout is not None
    assert script.stdout.readline() == "busy\n"
    workers = psutil.Process(script.pid).children(recursive=True)  # and what they are forked from
    script.kill()  # it alone
    _, errors = script.communicate(timeout=60)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert len(workers) > 1
    assert alive == []
    assert errors == ""


DAEMON = """
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
import threading
import psutil
from vjepa_mlflow.runtime.workers import WorkerPool, worker_processes

def work(number):
    with worker_processes():
        with worker_processes():
            list(WorkerPool(abs).map([number]))
        held = len(psutil.Process().children(recursive=True))
        results = list(WorkerPool(abs).map([number, -number]))
    return results, held > 1, len(psutil.Process().children()), threading.active_count()

with worker_processes():
    print(list(WorkerPool(abs).map([-3])))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map(work, [-1]))
    print(list(WorkerPool(abs).map([-4])))
print(psutil.Process().children())
"""


def test_they_end_with_their_block_also_in_a_daemon_that_was_forked_in_another(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DAEMON], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[3]\n[([1, 1], True, 0, 1)]\n[4]\n[]\n", "")
