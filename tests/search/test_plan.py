import re
from pathlib import Path

import optuna
import pytest
import yaml
from helpers import REPOSITORY
from search.conftest import PLAN

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.search import SweepPlan, read_plan
from vjepa_mlflow.search.plan import PRUNERS, SAMPLERS


@pytest.mark.parametrize("path", sorted((REPOSITORY / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_repositorys_own_sweeps_start_from_the_model_cards_values(path: Path) -> None:
    plan = read_plan(path)
    assert (
        plan.space.baseline(Recipe()).items()
        >= {
            "learning_rate": 1e-5,
            "gradient_accumulation_steps": 4,
        }.items()
    )
    plan.make_pruner()
    plan.make_sampler(seed=0, trial=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"trails": 5}, "trails: unknown key: expected metric, direction, trials, sampler, pruner, space"),
        ({"pruner": ...}, "no pruner: expected metric"),
        ({"metric": "test_accuracy"}, "metric: 'test_accuracy': expected one of val_accuracy"),
        ({"direction": "minimize"}, "direction: 'minimize': expected maximize for val_accuracy"),
        ({"metric": "val_loss"}, "direction: 'maximize': expected minimize for val_loss"),
        ({"trials": 0}, "trials=0: expected a whole number of at least 1"),
        ({"trials": "many"}, "trials=many: expected a whole number of at least 1"),
        ({"sampler": "tpe"}, "sampler: 'tpe': expected a name of tpe, gp, random"),
        ({"sampler": {"name": "grid"}}, "sampler: 'grid': expected a name of tpe, gp, random"),
        ({"sampler": {"name": "tpe", "startup": 3}}, "sampler.startup: unknown key: expected name, "),
        ({"sampler": {"name": "tpe", "seed": 3}}, "sampler.seed: unknown key"),
        ({"pruner": {"name": "median", "n_startup_trials": -1}}, "pruner: Number of startup trials cannot be negative"),
        ({"pruner": {"name": "percentile"}}, "pruner: "),
        ({"space": {}}, "space: expected fields of the recipe"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    entries = {key: value for key, value in {**yaml.safe_load(PLAN), **change}.items() if value is not ...}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(entries))
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}: {re.escape(sentence)}"):
        read_plan(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"metric: [", "no YAML"),
        (b"\xff\xfe\x00", "no YAML"),
        (b"- a list", "expected metric, direction"),
    ],
)
def test_what_is_no_sweep_is_named(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "sweep.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{path}: {sentence}")) as error:
        read_plan(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_suggests_for_a_trial_what_it_would_have_suggested_uninterrupted(
    plan: SweepPlan, tmp_path: Path, name: str
) -> None:
    entries = yaml.safe_load(PLAN) | {"sampler": {"name": name}}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(entries))
    plan = read_plan(tmp_path / "other.yaml")

    def suggest(study: optuna.Study, trials: range) -> list[dict[str, object]]:
        found = []
        for number in trials:
            study.sampler = plan.make_sampler(seed=0, trial=number)
            trial = study.ask()
            found.append(plan.space.suggest(trial))
            study.tell(trial, float(number % 3))
        return found

    whole = suggest(optuna.create_study(direction="maximize"), range(14))
    assert len({str(values) for values in whole}) == 14
    first = optuna.create_study(direction="maximize")
    begun = suggest(first, range(9))
    rest = optuna.create_study(direction="maximize")
    rest.add_trials(first.trials)
    assert begun + suggest(rest, range(9, 14)) == whole


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_can_be_named(tmp_path: Path, name: str) -> None:
    options = {"percentile": 25.0} if name == "percentile" else {}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(yaml.safe_load(PLAN) | {"pruner": {"name": name, **options}}))
    assert isinstance(read_plan(tmp_path / "sweep.yaml").make_pruner(), PRUNERS[name])
