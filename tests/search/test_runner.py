"""How trials end, in a real study, with trainings and runs of the test's."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna import TrialPruned

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.search import SharedStudy, SweepPlan, TakenOverError, TrialQueue, runner
from vjepa_mlflow.search.runner import TrialRunner
from vjepa_mlflow.search.trial_checkpoints import checkpoint_path
from vjepa_mlflow.search.trial_training import InterruptedTrial
from vjepa_mlflow.training import DivergedError

RUN = "a" * 32
UNUSED: Any = None


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with Optuna's tables, which take the longest to make."""
    path = tmp_path_factory.mktemp("tables") / "optuna.db"
    SharedStudy(f"sqlite:///{path}", "study")
    return path


@pytest.fixture
def url(tables: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(tables, tmp_path)}"


class Log:
    run_id = "trial's run"

    def __init__(self, calls: list[str]):
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self._calls.append(name)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done of a trial's run, in its order."""
    calls: list[str] = []

    @contextmanager
    def trial_log(*_: Any) -> Iterator[Log]:
        yield Log(calls)

    monkeypatch.setattr(runner.tracking, "trial_log", trial_log)
    monkeypatch.setattr(runner.tracking, "leave_trial_run", lambda _: calls.append("left"))
    monkeypatch.setattr(runner.tracking, "end_trial_run", lambda _, state: calls.append(f"ended {state}"))
    return calls


def open_queue(url: str, plan: SweepPlan) -> TrialQueue:
    shared = SharedStudy(url, "study")
    shared.create(plan, {})
    return shared.queue(plan, Recipe(), count=1, on_interrupted=lambda _: None)


def work(queue: TrialQueue, plan: SweepPlan, monkeypatch: pytest.MonkeyPatch, train: Any) -> None:
    """Runs a trial, and stops."""
    looks: list[None] = []
    setups: Any = SimpleNamespace(setup=lambda _: None)
    monkeypatch.setattr(runner.TrialTraining, "run", lambda *_: train())
    TrialRunner(queue, plan, Recipe(), setups, RUN, lambda: bool(looks), lambda: looks.append(None)).work()


def fail(error: BaseException) -> Any:
    def train() -> None:
        raise error

    return train


def trained(value: float = 0.5) -> Any:
    best = SimpleNamespace(metrics={"val_accuracy": value, "val_loss": 1.0}, epoch=2)
    return SimpleNamespace(best=best, epochs=[{}, {}], save_best=lambda _: None)


@pytest.mark.parametrize(
    ("train", "state", "failure"),
    [
        (trained, "COMPLETE", ""),
        (fail(DivergedError("loss became nan", UNUSED)), "FAIL", "loss became nan"),
    ],
)
def test_the_study_hears_of_an_end_once_the_run_has_everything(
    url: str, plan: SweepPlan, calls: list[str], monkeypatch: pytest.MonkeyPatch, train: Any, state: str, failure: str
) -> None:
    queue = open_queue(url, plan)
    for name in ("complete", "fail"):
        really = getattr(queue, name)
        monkeypatch.setattr(queue, name, lambda *told, really=really: (calls.append("told"), really(*told)))
    path = checkpoint_path(RUN, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    work(queue, plan, monkeypatch, train)
    (trial,) = queue.trials()
    assert (trial.state, trial.failure) == (state, failure)
    assert calls[-4:] == ["events", "deliver", "told", f"ended {state}"]
    assert not path.exists()


def test_a_pruned_trial_has_its_last_value(
    url: str, plan: SweepPlan, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open_queue(url, plan)
    work(queue, plan, monkeypatch, fail(TrialPruned()))
    (trial,) = queue.trials()
    assert trial.state == "PRUNED"
    assert trial.frozen.user_attrs["seconds"] >= 0
    assert calls[-1] == "ended PRUNED"


@pytest.mark.parametrize(
    ("error", "given_back", "goes_on"),
    [
        (InterruptedTrial("stopped"), True, True),
        (UserError("no disk"), True, False),
        (KeyboardInterrupt(), True, False),
        (MemoryError("much"), False, True),
        (ZeroDivisionError("a mistake"), False, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_a_try_that_ends_is_its_trials_or_nobodys_fault(
    url: str,
    plan: SweepPlan,
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    given_back: bool,
    goes_on: bool,
) -> None:
    queue = open_queue(url, plan)
    if goes_on:
        work(queue, plan, monkeypatch, fail(error))
    else:
        with pytest.raises(type(error)):
            work(queue, plan, monkeypatch, fail(error))
    (trial,) = queue.trials()
    assert trial.state == "INTERRUPTED"
    assert ("given_back" in trial.frozen.user_attrs) == given_back
    assert ("cause" in trial.frozen.user_attrs) == (not given_back)
    assert calls[-1] == "left"


def test_a_trial_that_another_process_has_taken_over_is_left_to_it(
    url: str, plan: SweepPlan, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open_queue(url, plan)
    work(queue, plan, monkeypatch, fail(TakenOverError()))
    assert "deliver" not in calls
    assert not any(call.startswith("ended") for call in calls)
    assert queue.trials()[0].outlived == {0}
