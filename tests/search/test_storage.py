"""What becomes of one that is away, replaced, or whose answers are lost."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import make_url

from tools.proxy import Proxy
from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.runtime import patience
from vjepa_mlflow.runtime.patience import AwayError
from vjepa_mlflow.search import METRICS, SharedStudy, SweepPlan, TrialQueue, heartbeat

ATTRIBUTES = {METRICS: {"val_accuracy": 0.5, "val_loss": 1.0}}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"SAID_AFTER": 0.1, "PATIENCE": 2.0, "PAUSE": 0.05}.items():
        monkeypatch.setattr(patience, name, seconds)


def open_queue(url: str, plan: SweepPlan, *, count: int = 2) -> TrialQueue:
    shared = SharedStudy(url, "study")
    shared.create(plan, {"space": "one"})
    return shared.queue(plan, Recipe(), count=count, on_interrupted=lambda _: None)


@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize"], ["maximize"]])
def test_a_study_that_is_no_sweeps_is_refused(url: str, plan: SweepPlan, directions: list[str]) -> None:
    made = optuna.create_study(storage=url, study_name="study", directions=directions)
    if directions == ["maximize"]:
        SharedStudy(url, "study")
        made.enqueue_trial({})
    with pytest.raises(UserError, match=r"study=study: there is one in .* that no sweep has made"):
        SharedStudy(url, "study").create(plan, {"space": "one"})


@pytest.fixture
def proxied(postgresql: Callable[[], str]) -> Iterator[tuple[str, Proxy]]:
    address = make_url(postgresql())
    proxy = Proxy(f"http://{address.host}:{address.port}")
    port = int(proxy.address.rpartition(":")[2])
    yield address.set(port=port).render_as_string(hide_password=False), proxy
    proxy.cut()


def test_a_server_that_is_away_is_waited_for(
    proxied: tuple[str, Proxy], plan: SweepPlan, soon: None, capsys: pytest.CaptureFixture[str]
) -> None:
    url, proxy = proxied
    trials = open_queue(url, plan)
    running = trials.take_next()
    assert running is not None
    acts: list[tuple[bytes, Callable[[], Any]]] = [
        (b"trial_intermediate_values", lambda: trials.report(running, 1, 0.5)),
        (b"trial_user_attributes", lambda: trials.note_checkpoint(running, 1)),
        (b"COMMIT", lambda: trials.complete(running, 0.5, ATTRIBUTES)),
        (b"INSERT INTO trials", lambda: open_queue(url, plan, count=3).take_next()),
    ]
    for words, act in acts:
        proxy.cut_when_sent(words, 0.3)
        act()
        assert not proxy.is_armed
    assert [trial.state for trial in trials.trials()] == ["COMPLETE", "RUNNING"]
    messages = capsys.readouterr().err.splitlines()
    assert any("it does not answer (" in line and line.endswith("waiting for up to 2 s") for line in messages)
    assert any(line.endswith("it answers again") for line in messages)
    proxy.cut()
    with pytest.raises(UserError, match=r"it does not answer: none within 2 s .*: expected one that does; the same"):
        trials.trials()
    began = time.monotonic()
    with pytest.raises(UserError, match="it does not answer"):  # on the way out nobody waits again
        trials.trials()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("lost", ["set_trial_state_values", "_create_new_trial"])
def test_what_has_arrived_is_not_done_twice(
    url: str, plan: SweepPlan, soon: None, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The answers of some calls are lost once these have been done, as where a server ends in between."""
    method = getattr(RDBStorage, lost)
    calls: list[Any] = []
    chance = random.Random(0)

    def do_and_lose(self: RDBStorage, *arguments: Any, **named: Any) -> Any:
        answer = method(self, *arguments, **named)
        calls.append(arguments)
        if chance.random() < 0.5:
            raise AwayError("the server has just gone")
        return answer

    monkeypatch.setattr(heartbeat, "GRACE_PERIOD", 0)
    trials = open_queue(url, plan, count=3)
    ended = []
    with monkeypatch.context() as patch:
        patch.setattr(RDBStorage, lost, do_and_lose)
        deadline = time.monotonic() + 10
        while not trials.is_done() and time.monotonic() < deadline:
            if (running := trials.take_next()) is not None:
                with trials.working_on(running):
                    trials.report(running, 1, 0.5)
                    trials.complete(running, 0.5, ATTRIBUTES)
                ended.append(running.number)
    assert len(calls) > 2
    assert sorted(ended) == [0, 1, 2]
    fixed = [trial.system_attrs["fixed_params"] for trial in trials.study.get_trials() if trial.number < 3]
    assert [bool(values) for values in fixed] == [True, False, False]
    assert [trial.state for trial in trials.study.get_trials()].count(TrialState.COMPLETE) == 3


@pytest.mark.parametrize("is_last", [True, False])  # whose number SQLite gives to the next one
@pytest.mark.parametrize("act", ["deleted", "made anew", "its file deleted"])
def test_a_study_that_goes_while_it_runs_is_told_of(url: str, plan: SweepPlan, act: str, is_last: bool) -> None:
    shared = SharedStudy(url, "study")
    shared.create(plan, {})
    shared.set_run_id("a" * 32)
    shared.hold("a" * 32)
    if not is_last:
        SharedStudy(url, "a later one").create(plan, {})
    trials = shared.queue(plan, Recipe(), count=2, on_interrupted=lambda _: None)
    running = trials.take_next()
    assert running is not None
    uses: list[Callable[[], object]] = [
        lambda: trials.report(running, 1, 0.5),
        lambda: trials.note_checkpoint(running, 1),
        lambda: trials.complete(running, 0.5, {}),
        trials.take_next,
    ]
    message = (
        "the file was deleted or replaced" if act == "its file deleted" else "study=study: it was deleted from sqlite"
    )
    with suppress(ZeroDivisionError), trials.working_on(running):
        if act == "its file deleted":
            Path(make_url(url).database or "").unlink()
        else:
            optuna.delete_study(study_name="study", storage=url)
        if act == "made anew":
            again = SharedStudy(url, "study")
            again.create(plan, {})
            again.set_run_id("b" * 32)
            again.hold("b" * 32)
            again.queue(plan, Recipe(), count=2, on_interrupted=lambda _: None).take_next()
        for use in uses:
            with pytest.raises(UserError, match=message):
                use()
        trials.give_back(running)
        raise ZeroDivisionError
    if act == "made anew":
        first, second = again._load().get_trials()
        assert (first.state.name, second.state.name) == ("RUNNING", "WAITING")
        assert first.intermediate_values == first.user_attrs == {}


def test_a_study_that_is_begun_again_before_the_first_trial_is_anothers(url: str, plan: SweepPlan) -> None:
    shared, again = SharedStudy(url, "study"), SharedStudy(url, "study")
    for one, run_id in ((shared, "a" * 32), (again, "b" * 32)):
        one.create(plan, {})
        one.set_run_id(run_id)
        one.hold(run_id)
        task = one.once("best of 2")
        running = task.take_next()
        assert running is not None, "it was done by the run of the study that was deleted"
        with task.working_on(running):
            task.complete(running, 1.0, {})
        if one is shared:
            optuna.delete_study(study_name="study", storage=url)
    with pytest.raises(UserError, match="study=study: it was deleted from sqlite"):
        shared.queue(plan, Recipe(), count=2, on_interrupted=lambda _: None).take_next()
    with pytest.raises(UserError, match="study=study: it was deleted from sqlite"):
        SharedStudy(url, "study").hold("a" * 32)
