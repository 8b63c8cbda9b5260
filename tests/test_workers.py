import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import environment, write_video

from vjepa_mlflow import UserError, workers
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
    tensors: WorkerPool[np.ndarray, torch.Tensor] = WorkerPool(torch.from_numpy)
    (one,) = tensors.map([np.arange(3)])
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
    pool: WorkerPool[int, int] = WorkerPool(abs)
    assert list(pool.map([])) == []
    assert pool._loader._iterator is None


def test_a_worker_that_dies_is_one_clear_error() -> None:
    pool: WorkerPool[int, int] = WorkerPool(os._exit)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"a worker process died \(DataLoader worker"):
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
    try:
        pool: WorkerPool[int, int] = WorkerPool(abs)
        assert list(pool.map([-1, -2])) == [1, 2]
        assert pool._loader.num_workers == 0
        WorkerPool(abs)
    finally:
        workers._count_workers.cache_clear()
    told = capsys.readouterr().err
    assert told.count("Videos are read one at a time: /dev/shm has less") == 1


SCRIPT = """
from pathlib import Path
from vjepa_mlflow.video import inspect_videos

print("once", flush=True)
print(len(inspect_videos([Path("clip.mp4")], num_frames=16, stride=4)[0].digest))
"""


def test_a_script_without_a_main_guard_runs_once(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.stdout.split() == ["once", "64"], done.stderr
