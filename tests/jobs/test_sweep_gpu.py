"""The sweep on a CUDA GPU, with random weights and few layers."""

import signal
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
from helpers import REPOSITORY, without_times
from mlflow import MlflowClient

from vjepa_mlflow import Recipe, flavor, run_sweep, training
from vjepa_mlflow.data import list_samples
from vjepa_mlflow.tracking import STATE_TAG

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
SWEEP = REPOSITORY / "sweeps" / "baseline.yaml"


@pytest.fixture
def recipe(small_data: Path, vit_short: Path) -> Recipe:
    return Recipe(data=str(small_data), model=str(vit_short), epochs=2, precision="bf16")


def test_a_sweep_runs_in_two_processes(tracking: str, recipe: Recipe) -> None:
    result = run_sweep(SWEEP, recipe, trials=4, workers=2)
    runs = mlflow.search_runs(output_format="list", filter_string=f"tags.`mlflow.parentRunId` = '{result.run_id}'")
    assert [(run.info.status, run.data.tags[STATE_TAG]) for run in runs] == [("FINISHED", "COMPLETE")] * 4
    values = [run.data.metrics["best_val_accuracy"] for run in runs]
    assert result.metrics["val_accuracy"] == pytest.approx(max(values))
    served = mlflow.pyfunc.load_model(result.model_uri, model_config={"batch_size": 4})
    validated = [sample for sample in list_samples(recipe.data) if sample.split == "val"]
    answers = [served.predict(flavor.example_input(sample.path.read_bytes()))["label"][0] for sample in validated]
    hits = [answer == sample.label for answer, sample in zip(answers, validated, strict=True)]
    assert sum(hits) / len(hits) == pytest.approx(result.metrics["val_accuracy"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_trial_has_the_numbers_of_one_that_was_not_interrupted(
    tracking: str, recipe: Recipe, precision: str
) -> None:
    recipe = replace(recipe, precision=precision, learning_rate=1e-4)
    whole = run_sweep(SWEEP, recipe, trials=1, study="whole")
    with pytest.MonkeyPatch.context() as patch:
        end_epoch = training.TrainingState.end_epoch

        def end_and_interrupt(self: training.TrainingState, metrics: dict[str, float], metric: str) -> None:
            end_epoch(self, metrics, metric)
            signal.raise_signal(signal.SIGINT)

        patch.setattr(training.TrainingState, "end_epoch", end_and_interrupt)
        with pytest.raises(KeyboardInterrupt, match="0 of 1 trials have ended"):
            run_sweep(SWEEP, recipe, trials=1, study="resumed")
    resumed = run_sweep(SWEEP, recipe, trials=1, study="resumed")
    assert without_times(resumed.metrics) == without_times(whole.metrics)
    heads = [flavor.load_model(result.model_uri).model.classifier.weight for result in (whole, resumed)]
    assert torch.equal(*heads)
    assert MlflowClient().get_run(resumed.run_id).info.status == "FINISHED"
