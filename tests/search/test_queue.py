"""A real study in SQLite and PostgreSQL, shared by threads, processes and the dead."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import environment, wait_until
from optuna.trial import TrialState

from vjepa_mlflow import Recipe
from vjepa_mlflow.search import (
    METRICS,
    RunningTrial,
    SharedStudy,
    SweepPlan,
    TakenOverError,
    TrialQueue,
    best_trial,
    heartbeat,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, url: str) -> str:
    return url if request.param == "sqlite" else request.getfixturevalue("postgresql")()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats every second, and death after two without."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_INTERVAL", 1)
    monkeypatch.setattr(heartbeat, "GRACE_PERIOD", 2)


def open_queue(url: str, plan: SweepPlan, *, count: int = 6, lost: list[int] | None = None) -> TrialQueue:
    shared = SharedStudy(url, "study")
    shared.create(plan, {"space": "one"})
    return shared.queue(plan, Recipe(), count=count, on_interrupted=[].append if lost is None else lost.append)


def complete(trials: TrialQueue, value: float = 0.5, **metrics: float) -> int | None:
    """Does the next trial, and returns its number."""
    running = trials.take_next()
    if running is None:
        return None
    with trials.working_on(running):
        trials.complete(running, value, {METRICS: {"val_accuracy": value, "val_loss": 1.0, **metrics}})
    return running.number


def states(trials: TrialQueue) -> list[str]:
    return [f"{trial.number} {trial.state}" for trial in trials.trials()]


def test_the_first_trial_is_the_baseline_and_no_more_run_than_are_wanted(database: str, plan: SweepPlan) -> None:
    trials = open_queue(database, plan, count=3)
    assert not trials.is_done()
    assert [complete(trials) for _ in range(4)] == [0, 1, 2, None]
    assert trials.is_done()
    running = trials.take_next()
    assert running is None
    assert len(trials.study.get_trials()) == 3


def test_the_first_trials_values(url: str, plan: SweepPlan) -> None:
    trials = open_queue(url, plan)
    running = trials.take_next()
    assert running is not None
    assert plan.space.suggest(running.trial) == {"learning_rate": 1e-5, "gradient_accumulation_steps": 4}


def test_more_trials_may_be_wanted_later_and_less(url: str, plan: SweepPlan) -> None:
    few = open_queue(url, plan, count=2)
    assert [complete(few) for _ in range(3)] == [0, 1, None]
    more = open_queue(url, plan, count=4)
    assert [complete(more) for _ in range(3)] == [2, 3, None]
    assert states(open_queue(url, plan, count=2)) == [f"{number} COMPLETE" for number in range(4)]


def test_trials_may_be_added_ahead_as_far_as_there_is_time(url: str, plan: SweepPlan) -> None:
    trials = open_queue(url, plan, count=4)
    answers = iter([False, False, True])
    trials.fill(lambda: next(answers))
    assert states(trials) == ["0 WAITING", "1 WAITING"]
    running = trials.take_next()
    assert running is not None
    assert plan.space.suggest(running.trial) == plan.space.baseline(Recipe())
    assert states(trials) == ["0 RUNNING", "1 WAITING", "2 WAITING", "3 WAITING"]


def test_many_take_each_trial_once(database: str, plan: SweepPlan) -> None:
    done: list[int] = []
    open_queue(database, plan)

    def work() -> None:
        trials = open_queue(database, plan, count=24)
        while (number := complete(trials)) is not None:
            done.append(number)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    trials = open_queue(database, plan, count=24)
    assert trials.is_done()
    assert Counter(done) == Counter(trial.number for trial in trials.trials())
    assert len(trials.study.get_trials()) == 24


def test_a_trial_is_drawn_from_all_that_others_have_done_meanwhile(url: str, plan: SweepPlan) -> None:
    """Also where this process's last trial has ended in nothing, after which Optuna keeps the list that it had."""

    def known_to_the_sampler() -> int:
        running = trials.take_next()
        assert running is not None
        with trials.working_on(running):
            return len(running.trial.study._get_trials(states=(TrialState.COMPLETE,), use_cache=True))

    trials, others = open_queue(url, plan), open_queue(url, plan)
    assert known_to_the_sampler() == 0
    assert [complete(others) for _ in range(3)] == [0, 1, 2]
    assert known_to_the_sampler() == 3


def test_a_trial_that_does_not_end_is_given_back_with_its_values(url: str, plan: SweepPlan) -> None:
    lost: list[int] = []
    trials = open_queue(url, plan, count=2, lost=lost)
    assert complete(trials) == 0
    running = trials.take_next()
    assert running is not None
    with trials.working_on(running):
        values = plan.space.suggest(running.trial)
    assert states(trials) == ["0 COMPLETE", "1 INTERRUPTED"]
    again = trials.take_next()
    assert again is not None
    assert lost == [again.number] == [1]
    assert plan.space.suggest(again.trial) == values
    assert states(trials) == ["0 COMPLETE", "1 RUNNING"]


def test_a_trial_that_fails_by_itself_is_not_tried_again(url: str, plan: SweepPlan) -> None:
    trials = open_queue(url, plan, count=1)
    running = trials.take_next()
    assert running is not None
    with trials.working_on(running):
        trials.fail(running, "training loss became nan", {})
    assert states(trials) == ["0 FAIL"]
    assert trials.take_next() is None
    assert best_trial(trials.trials(), "val_accuracy") is None


TAKE_AND_HANG = """
import time
from pathlib import Path
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.search import SharedStudy, heartbeat, read_plan
heartbeat.HEARTBEAT_INTERVAL, heartbeat.GRACE_PERIOD = 1, 2
plan = read_plan(Path({plan!r}))
studies = [SharedStudy(url, "study") for url in {urls!r}]
for one in studies:
    one.create(plan, {{"space": "one"}})
trials = [one.queue(plan, Recipe(), count=1, on_interrupted=print) for one in studies]
running = [one.take_next() for one in trials]
with trials[0].working_on(running[0]), trials[1].working_on(running[1]):
    print(*(trial.number for trial in running), flush=True)
    time.sleep(600)
"""


def test_a_process_that_is_killed_is_noticed_and_one_that_lives_is_left_alone(
    url: str, postgresql: Callable[[], str], plan: SweepPlan, impatient: None, tmp_path: Path
) -> None:
    """In SQLite and in PostgreSQL, by one process, since starting takes longest."""
    urls = [url, postgresql()]
    program = TAKE_AND_HANG.format(urls=urls, plan=str(tmp_path / "sweep.yaml"))
    process = subprocess.Popen([sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "0 0\n"
    lost: list[int] = []
    trials = [open_queue(one, plan, count=1, lost=lost) for one in urls]
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:  # it records heartbeats all the time
        assert [one.take_next() for one in trials] == [None, None]
        time.sleep(0.2)
    process.kill()
    process.wait()
    for one in trials:
        wait_until(lambda one=one: complete(one) == 0)
        assert states(one) == ["0 COMPLETE"]
    assert lost == [0, 0]


def test_one_who_was_taken_for_dead_learns_that_its_trials_are_not_its_own(
    url: str, plan: SweepPlan, impatient: None
) -> None:
    sleeper, other = (open_queue(url, plan, count=4) for _ in range(2))
    taken = [running for _ in range(4) if (running := sleeper.take_next()) is not None]
    for number in range(4):
        wait_until(lambda number=number: complete(other) == number)
    acts: list[Callable[[RunningTrial], object]] = [
        lambda running: sleeper.report(running, 1, 0.5),
        lambda running: sleeper.complete(running, 0.5, {}),
        lambda running: sleeper.fail(running, "too late", {}),
        lambda running: sleeper.prune(running, {}),
    ]
    for running, act in zip(taken, acts, strict=True):
        with pytest.raises(TakenOverError), sleeper.working_on(running):
            act(running)
    assert states(other) == [f"{number} COMPLETE" for number in range(4)]
    assert all(trial.outlived == {0, 1, 2, 3} for trial in other.trials())


def test_reports_prune_what_is_hopeless(url: str, tmp_path: Path) -> None:
    from search.conftest import PLAN

    from vjepa_mlflow.search import read_plan

    (tmp_path / "pruned.yaml").write_text(
        PLAN.replace("{name: none}", "{name: median, n_startup_trials: 1, n_warmup_steps: 2}")
    )
    trials = open_queue(url, read_plan(tmp_path / "pruned.yaml"), count=2)
    good, bad = trials.take_next(), trials.take_next()
    assert good is not None
    assert bad is not None
    for epoch in (1, 2):
        assert not trials.report(good, epoch, 0.9)
    trials.complete(good, 0.9, {METRICS: {"val_accuracy": 0.9, "val_loss": 1.0}})
    assert [trials.report(bad, epoch, 0.1) for epoch in (1, 2)] == [False, True]
    trials.prune(bad, {})
    assert states(trials) == ["0 COMPLETE", "1 PRUNED"]


def test_what_is_to_be_done_once_is_done_once(database: str, plan: SweepPlan) -> None:
    open_queue(database, plan)
    done = []

    def work() -> None:
        task = SharedStudy(database, "study").once("best of 6")
        while not task.is_done():
            running = task.take_next()
            if running is not None:
                with task.working_on(running):
                    done.append(running.number)
                    task.complete(running, 1.0, {"model_uri": "models:/m-1"})

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert done == [0]
    (trial,) = SharedStudy(database, "study").once("best of 6").trials()
    assert trial.frozen.user_attrs["model_uri"] == "models:/m-1"


def test_equals_are_told_apart_by_their_loss_and_then_the_first_one_is_the_best(url: str, plan: SweepPlan) -> None:
    trials = open_queue(url, plan, count=4)
    for value, loss in ((0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8)):
        complete(trials, value, val_loss=loss)
    best = best_trial(trials.trials(), "val_accuracy")
    assert best is not None
    assert best.number == 2
