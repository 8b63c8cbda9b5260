import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import free_port

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.data import read_training_data
from vjepa_mlflow.runtime import patience
from vjepa_mlflow.search import SharedStudy, SweepPlan, default_storage, define, study
from vjepa_mlflow.search.plan import Algorithm


@pytest.mark.parametrize(
    ("tracking", "storage"),
    [
        ("sqlite:////data/mlflow.db", "sqlite:////data/optuna.db"),
        ("sqlite:///mlflow.db", "sqlite:///{here}/optuna.db"),
        ("http://127.0.0.1:5000", "sqlite:///{here}/optuna.db"),
    ],
)
def test_the_default_storage_is_beside_mlflows(tracking: str, storage: str) -> None:
    assert default_storage(tracking) == storage.format(here=Path.cwd())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@127.0.0.1:{port}/studies", "storage=postgresql://me:***@127.0.0.1:{port}/studies"),
        ("sqlite:////no/such/folder/optuna.db", "storage=sqlite:////no/such/folder/optuna.db"),
        ("no-such-database://host/name", "storage=no-such-database://host/name"),
        ("optuna.db", "storage=optuna.db: no database URL"),
    ],
)
def test_a_storage_that_does_not_answer_is_named_without_its_password(
    url: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0)
    port = free_port()
    with pytest.raises(UserError, match=re.escape(shown.format(port=port))) as error:
        SharedStudy(url.format(port=port), "study")
    assert "\n" not in str(error.value)
    assert "expected" in str(error.value)


def test_a_study_is_recognised_by_its_definition(url: str, plan: SweepPlan) -> None:
    assert SharedStudy(url, "study").create(plan, {"data": "8 videos", "learning_rate": "1 to 2"})
    assert not SharedStudy(url, "study").create(plan, {"data": "8 videos", "learning_rate": "1 to 2"})
    with pytest.raises(UserError, match=r"study=study: .* with learning_rate: 1 to 2; here it is 1 to 3"):
        SharedStudy(url, "study").create(plan, {"data": "8 videos", "learning_rate": "1 to 3"})
    with pytest.raises(UserError, match=r"study=study: .* with stride: 4; here it is 8"):
        SharedStudy(url, "study").create(plan, {"data": "8 videos", "learning_rate": "1 to 2", "stride": "8"})
    # A field that the recipe did not have then had its default, and its algorithms were not noted.
    assert not SharedStudy(url, "study").create(
        plan, {"data": "8 videos", "learning_rate": "1 to 2", "stride": "4", "sampler": "tpe"}
    )


def test_processes_with_other_data_are_refused(url: str, plan: SweepPlan) -> None:
    shared = SharedStudy(url, "study")
    shared.create(plan, {"space": "one"})
    shared.agree("videos", "8 videos (aa)")
    SharedStudy(url, "study").agree("videos", "8 videos (aa)")
    with pytest.raises(UserError, match=r"made with the videos 8 videos \(aa\); here it is 8 videos \(bb\)"):
        SharedStudy(url, "study").agree("videos", "8 videos (bb)")
    shared.agree("videos", "8 videos (aa)")


def test_what_defines_a_study(plan: SweepPlan, small_data: Path) -> None:
    samples = read_training_data(str(small_data)).samples
    recipe = Recipe(data=str(small_data), model="tiny")
    definition = define(plan, recipe, samples)
    assert (definition["sampler"], definition["pruner"]) == ("tpe, n_startup_trials 3", "none")
    assert definition["learning_rate"] == "1e-06 to 0.01, log, from 1e-05"
    assert definition["epochs"] == "5"
    for same in (replace(recipe, device="cpu"), replace(recipe, cache="off"), replace(recipe, data="elsewhere")):
        assert define(plan, same, samples) == definition
    for other in (replace(recipe, epochs=6), replace(recipe, seed=1), replace(recipe, learning_rate=1e-4)):
        assert define(plan, other, samples) != definition
    for sampler in (Algorithm("tpe"), Algorithm("random")):
        assert define(replace(plan, sampler=sampler), recipe, samples) != definition
    assert define(plan, recipe, samples[1:]) != definition
    assert define(plan, recipe, list(reversed(samples))) == definition


def test_one_of_many_creates_a_study_and_the_others_wait_for_its_run(url: str, plan: SweepPlan) -> None:
    found = []

    def join() -> None:
        shared = SharedStudy(url, "study")
        if shared.create(plan, {"space": "one"}):
            shared.set_run_id("run of the first")
        found.append(shared.wait_for_run())

    threads = [threading.Thread(target=join) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["run of the first"] * 4


def test_a_study_whose_creator_died_before_it_had_a_run_gets_another(
    url: str, plan: SweepPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "SECONDS_FOR_A_RUN", 0.1)
    SharedStudy(url, "study").create(plan, {"space": "one"})
    assert SharedStudy(url, "study").wait_for_run() is None
