"""Who does what among the processes of a sweep."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vjepa_mlflow import Recipe
from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.runtime.processes import Started
from vjepa_mlflow.search import read_plan, worker_pool
from vjepa_mlflow.search.assignment import Assignment

NOBODY = 1 << 22
"""Beyond all ids of processes."""

SWEEP = Path(__file__).parents[2] / "sweeps" / "baseline.yaml"


@pytest.mark.parametrize(
    ("device", "expected"), [("auto", ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]), ("cuda:2", ["cuda:2"] * 4)]
)
def test_each_has_a_gpu_of_its_own_as_far_as_there_are_enough(
    monkeypatch: pytest.MonkeyPatch, device: str, expected: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    started: list[Assignment] = []

    def start_process(_: object, assignment: Assignment) -> Started:
        started.append(assignment)
        ours, theirs = Channel.pair()
        theirs.close()
        return Started(ours, NOBODY + assignment.share.rank)

    monkeypatch.setattr(worker_pool, "start_process", start_process)
    recipe = Recipe(device=device)
    about = {"storage": "", "study": "", "run_id": "", "tracking_uri": ""}
    whole = Assignment(plan=read_plan(SWEEP), recipe=recipe, encoded=recipe, count=1, **about)
    with worker_pool.worker_pool(whole, 4) as pool:
        assert pool.process_ids() == [NOBODY + rank for rank in (1, 2, 3)]  # from the start on, for interrupts
        everyone = [whole.for_process(0, 4), *started]
    assert [each.recipe.device for each in everyone] == expected
    assert [each.encoded.device for each in everyone] == expected
    assert [each.share.rank for each in everyone] == [0, 1, 2, 3]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Channel]:
    """The ends of workers' channels, of which nobody listens but the test."""
    ends: list[Channel] = []

    def start_process(*_: object) -> Started:
        ours, theirs = Channel.pair()
        ends.append(theirs)
        return Started(ours, NOBODY + len(ends))

    monkeypatch.setattr(worker_pool, "start_process", start_process)
    monkeypatch.setattr(worker_pool, "PAUSE", 0.01)
    return ends


def test_a_worker_that_ends_before_its_time_is_told_of_once(
    workers: list[Channel], capsys: pytest.CaptureFixture[str]
) -> None:
    assignment: Any = None
    pool = worker_pool.WorkerPool([worker_pool.Worker(assignment) for _ in range(3)])
    workers[0].send(("has_encoded", True))
    workers[1].send(("end", "no disk"))
    workers[2].close()
    pool.meet()
    assert pool.process_ids() == [NOBODY + 1]
    pool.begin()
    assert workers[0].receive()[0] is None
    workers[0].send(("end", ""))
    pool.wait()
    pool.look()
    assert [line.split("Worker ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "2 ended (no disk): its trial goes on elsewhere",
        "3 ended (it was killed): its trial goes on elsewhere",
    ]


def test_what_goes_wrong_in_the_block_stops_the_workers(
    workers: list[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []

    def kill(process_id: int, number: int) -> None:
        killed.append(process_id)
        workers[process_id - NOBODY - 1].send(("end", "it was interrupted"))

    monkeypatch.setattr(worker_pool.os, "kill", kill)
    whole: Any = SimpleNamespace(for_process=lambda *_: None)
    with pytest.raises(ZeroDivisionError), worker_pool.worker_pool(whole, 3):
        raise ZeroDivisionError
    assert killed == [NOBODY + 1, NOBODY + 2]
