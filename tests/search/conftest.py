from pathlib import Path

import pytest

from vjepa_mlflow import Recipe
from vjepa_mlflow.search import METRICS, SharedStudy, SweepPlan, TrialQueue, read_plan

PLAN = """
metric: val_accuracy
direction: maximize
trials: 6
sampler: {name: tpe, n_startup_trials: 3}
pruner: {name: none}
space:
  learning_rate: {low: 1e-6, high: 1e-2, log: true}
  gradient_accumulation_steps: {choices: [1, 2, 4, 8, 16]}
"""


@pytest.fixture
def plan(tmp_path: Path) -> SweepPlan:
    (tmp_path / "sweep.yaml").write_text(PLAN)
    return read_plan(tmp_path / "sweep.yaml")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/optuna.db"


@pytest.fixture(scope="session")
def ended(tmp_path_factory: pytest.TempPathFactory) -> TrialQueue:
    """A small study with every kind of end, to be looked at."""
    folder = tmp_path_factory.mktemp("ended")
    (folder / "sweep.yaml").write_text(PLAN)
    return do_trials(f"sqlite:///{folder}/optuna.db", read_plan(folder / "sweep.yaml"))


def do_trials(url: str, plan: SweepPlan) -> TrialQueue:
    """Four completed trials, of which the third is the best, one pruned and one failed."""
    shared = SharedStudy(url, "study")
    shared.create(plan, {})
    trials = shared.queue(plan, Recipe(), count=6, on_interrupted=lambda _: None)
    for value in (0.4, 0.5, 0.8, 0.6, "pruned", "failed"):
        running = trials.take_next()
        assert running is not None
        plan.space.suggest(running.trial)
        trials.report(running, 1, 0.3)
        if isinstance(value, float):
            trials.report(running, 2, value)
            attributes = {METRICS: {"val_accuracy": value, "val_loss": 1.0}, "best_epoch": 2, "seconds": 1.5}
            trials.complete(running, value, attributes)
        elif value == "pruned":
            trials.prune(running, {"seconds": 0.5})
        else:
            trials.fail(running, "training loss became nan", {"seconds": 0.1})
    return trials
