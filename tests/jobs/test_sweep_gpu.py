"""The sweep on a CUDA GPU, with random weights and few layers. Trials that go on are in test_train_gpu.py."""

from pathlib import Path

import mlflow
import pytest
import torch
import yaml
from helpers import REPOSITORY

from vjepa_mlflow import Recipe, flavor, run_sweep
from vjepa_mlflow.data import list_samples
from vjepa_mlflow.tracking import STATE_TAG

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    """The baseline's search, for learning rates alone: each size of window would be compiled in both processes."""
    search = yaml.safe_load((REPOSITORY / "sweeps" / "baseline.yaml").read_text())
    del search["space"]["gradient_accumulation_steps"]
    file = tmp_path / "rates.yaml"
    file.write_text(yaml.safe_dump(search))
    return file


def test_a_sweep_runs_in_two_processes(tracking: str, small_data: Path, vit_short: Path, rates: Path) -> None:
    recipe = Recipe(data=str(small_data), model=str(vit_short), epochs=2, precision="bf16")
    result = run_sweep(rates, recipe, trials=4, workers=2)
    runs = mlflow.search_runs(output_format="list", filter_string=f"tags.`mlflow.parentRunId` = '{result.run_id}'")
    assert [(run.info.status, run.data.tags[STATE_TAG]) for run in runs] == [("FINISHED", "COMPLETE")] * 4
    values = [run.data.metrics["best_val_accuracy"] for run in runs]
    assert result.metrics["val_accuracy"] == pytest.approx(max(values))
    served = mlflow.pyfunc.load_model(result.model_uri)
    validated = [sample for sample in list_samples(recipe.data) if sample.split == "val"]
    answers = [served.predict(flavor.example_input(sample.path.read_bytes()))["label"][0] for sample in validated]
    hits = [answer == sample.label for answer, sample in zip(answers, validated, strict=True)]
    assert sum(hits) / len(hits) == pytest.approx(result.metrics["val_accuracy"])
