"""When a training's states are saved, by which thread, and what is left of it."""

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vjepa_mlflow import UserError, training
from vjepa_mlflow.files.cache import own_folder
from vjepa_mlflow.stages import checkpoints as job
from vjepa_mlflow.stages.checkpoints import CHECKPOINT_INTERVAL, CheckpointClock, Checkpoints
from vjepa_mlflow.training.adam import Adam

SECONDS = 10
"""For which a test waits for another thread."""


class Log:
    """What checkpoints need of a run's log; notes what it is told."""

    def __init__(self) -> None:
        self.run_id = "0" * 32
        self.logged: list[str] = []

    def checkpoint(self, _: Path, name: str) -> None:
        self.logged.append(name)

    def forget_checkpoints(self, folder: str) -> None:
        self.logged.append(f"no {folder}")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))
    return Log()


@pytest.fixture
def state() -> training.TrainingState:
    head: Any = torch.nn.Linear(2, 2)
    optimizer = Adam(head.parameters())
    return training.TrainingState(head, optimizer)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A disk that takes nothing before the function is called; the first state has begun to be written by then."""
    free, really = threading.Event(), training.Snapshot.write

    def write(snapshot: training.Snapshot, path: Path) -> None:
        assert free.wait(SECONDS)
        really(snapshot, path)

    monkeypatch.setattr(training.Snapshot, "write", write)
    yield free.set
    free.set()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fails where a thread outlasts its training."""
    yield
    assert "checkpoints" not in [thread.name for thread in threading.enumerate()]


def step(state: training.TrainingState) -> None:
    """Makes the next state, in which every weight is the number of its steps."""
    with state.changing():
        state.steps += 1
        torch.nn.init.constant_(state.head.weight, state.steps)  # type: ignore[arg-type]


def train(log: Any, work: Callable[[Checkpoints], None], *, every: int = 0) -> None:
    with Checkpoints(log, every=every) as checkpoints:
        work(checkpoints)


def kept(log: Log) -> dict[str, float]:
    """The weight in each file."""
    files = (own_folder("checkpoints") / log.run_id).glob("*")
    return {path.name: float(training.read_snapshot(path).part("head")["weight"][0, 0]) for path in files}


def test_saving_waits_for_no_disk_and_of_what_waits_for_it_the_newest_is_written(
    log: Any, state: training.TrainingState, slow_disk: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    memories: list[training.HostMemory] = []
    make = training.HostMemory
    monkeypatch.setattr(training, "HostMemory", lambda: memories.append(make()) or memories[-1])
    with Checkpoints(log, every=1) as checkpoints:
        for _ in range(5):
            step(state)
            checkpoints.offer(state)
            checkpoints.offer(state)  # as before each batch of a validation: nothing has changed
        assert log.logged == []
        slow_disk()
        checkpoints.finish_writing()
        step(state)  # which changes nothing of what is written
        assert kept(log) == {"step-00000005.safetensors": 5}
        assert log.logged[-1] == "checkpoint/step-00000005.safetensors"
        assert len(log.logged) <= 2  # the one that was being written, and the newest
        assert len(checkpoints.waits) == 5
        assert sum(checkpoints.waits) < 1
    assert len(memories) <= 2


def test_a_short_training_saves_nothing_and_a_long_one_as_much_as_it_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(job, "time", SimpleNamespace(monotonic=lambda: now))
    for cost in (0.01, 1.0, 40.0):
        clock, saved = CheckpointClock(), [now]
        while len(saved) < 10:
            now += 0.5
            if not clock.is_due():
                continue
            saved.append(now)
            clock.begin()
            now += cost / 2
            assert not clock.is_due()
            now += cost / 2
            clock.end()
        assert saved[1] - saved[0] == pytest.approx(CHECKPOINT_INTERVAL, abs=1)
        between = [later - earlier for earlier, later in pairwise(saved[1:])]
        assert between == pytest.approx([max(CHECKPOINT_INTERVAL, 20 * cost)] * 8, abs=1)


@pytest.mark.parametrize("error", [RuntimeError("a video is gone"), KeyboardInterrupt()])
def test_the_state_at_which_training_ends_by_an_error_is_kept(
    log: Any, state: training.TrainingState, error: BaseException
) -> None:
    def work(checkpoints: Checkpoints) -> None:
        step(state)
        checkpoints.offer(state)
        assert kept(log) == {}
        raise error

    with pytest.raises(type(error)):
        train(log, work)
    assert kept(log) == {"step-00000001.safetensors": 1}


def save_two(checkpoints: Checkpoints, state: training.TrainingState, slow_disk: Callable[[], None]) -> None:
    """The second is not written yet when this returns."""
    for _ in range(2):
        step(state)
        checkpoints.offer(state)
    threading.Timer(0.1, slow_disk).start()


def test_what_is_no_state_between_two_steps_is_not_kept_but_the_one_before_is(
    log: Any, state: training.TrainingState, slow_disk: Callable[[], None]
) -> None:
    def work(checkpoints: Checkpoints) -> None:
        save_two(checkpoints, state, slow_disk)
        with state.changing():
            torch.nn.init.zeros_(state.head.weight)  # type: ignore[arg-type]
            raise RuntimeError("in the middle of a step")

    with pytest.raises(RuntimeError):
        train(log, work, every=1)
    assert kept(log) == {"step-00000002.safetensors": 2}


@pytest.mark.parametrize("end", ["forget", "abandon"])
def test_nothing_is_written_once_there_is_nothing_to_go_on_with(
    log: Any, state: training.TrainingState, slow_disk: Callable[[], None], end: str
) -> None:
    def work(checkpoints: Checkpoints) -> None:
        save_two(checkpoints, state, slow_disk)
        getattr(checkpoints, end)()
        step(state)
        raise UserError("of what came after")

    with pytest.raises(UserError, match="of what came after"):
        train(log, work, every=1)
    if end == "forget":
        assert kept(log) == {}
        assert log.logged[-1] == "no checkpoint"
    assert set(kept(log)) <= {"step-00000001.safetensors"}  # which was being written


def test_a_disk_that_takes_nothing_is_told_at_the_next_save_and_hides_no_other_error(
    log: Any, state: training.TrainingState, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_folder("checkpoints") / log.run_id).touch()  # where there is to be a folder
    refused = "the checkpoint cannot be written"
    step(state)

    def go_on_saving(checkpoints: Checkpoints) -> None:
        checkpoints.offer(state)
        checkpoints.save(state)
        with pytest.raises(UserError, match=refused):
            checkpoints.finish_writing()
        checkpoints.save(state)
        checkpoints.finish_writing()

    with pytest.raises(UserError, match=refused):
        train(log, go_on_saving)
    assert capsys.readouterr().err == ""

    def fail(checkpoints: Checkpoints) -> None:
        checkpoints.offer(state)
        raise ValueError("another")

    with pytest.raises(ValueError, match="another"):
        train(log, fail)
    assert f"The state at which training ended is not saved: {own_folder('checkpoints')}" in capsys.readouterr().err


def test_a_disk_that_has_room_again_takes_the_last_state(log: Any, state: training.TrainingState) -> None:
    blocking = own_folder("checkpoints") / log.run_id
    blocking.touch()

    def work(checkpoints: Checkpoints) -> None:
        step(state)
        checkpoints.offer(state)
        with pytest.raises(UserError, match="the checkpoint cannot be written"):
            checkpoints.finish_writing()
        blocking.unlink()
        raise ValueError("another")

    with pytest.raises(ValueError, match="another"):
        train(log, work, every=1)
    assert kept(log) == {"step-00000001.safetensors": 1}


def test_a_state_that_is_saved_already_is_not_copied_again(
    log: Any, state: training.TrainingState, slow_disk: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Ctrl-C in the midst of that would lose both."""

    def work(checkpoints: Checkpoints) -> None:
        save_two(checkpoints, state, slow_disk)
        monkeypatch.setattr(state, "snapshot", lambda _: pytest.fail("copied again"))
        checkpoints.save(state)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(log, work, every=1)
    assert kept(log) == {"step-00000002.safetensors": 2}
