from pathlib import Path

import pytest

from vjepa_mlflow.search import SweepPlan, read_plan

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
