"""What must be true of a training run that has ended."""

import pytest
from helpers import EPOCH_METRICS, TEST_METRICS
from mlflow import MlflowClient

from vjepa_mlflow import Recipe, TrainingResult


def check_run(result: TrainingResult, recipe: Recipe) -> None:
    """That it holds everything."""
    client = MlflowClient()
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    for name in EPOCH_METRICS:
        history = client.get_metric_history(result.run_id, name)
        assert [point.step for point in history] == list(range(1, recipe.epochs + 1)), name
    for name in {*TEST_METRICS, "duration_seconds"}:
        (point,) = client.get_metric_history(result.run_id, name)
        assert point.step == result.best_epoch
    params = run.data.params
    assert params["learning_rate"] == str(recipe.learning_rate)
    assert params["checkpoint"] == "tiny"
    assert params["checkpoint_revision"].startswith("sha256:")
    assert int(params["trainable_parameters"]) < int(params["total_parameters"])
    assert {
        "version_torch",
        "version_transformers",
        "version_mlflow",
        "device_name",
        "hardware",
        "train_videos",
    } <= set(params)
    assert {(used.tags[0].value, used.dataset.name.split("-")[-1]) for used in run.inputs.dataset_inputs} == {
        ("train", "train"),
        ("val", "val"),
        ("test", "test"),
    }
    artifacts = {artifact.path for artifact in client.list_artifacts(result.run_id)}
    assert {"curves.png", "test_predictions.png", "labels.json", "split.csv", "tensorboard"} <= artifacts
    (model,) = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{result.run_id}'")
    # MLflow attaches everything that was logged with the step, and counts system metrics in steps of its own.
    attached = {metric.key: metric.value for metric in model.metrics if not metric.key.startswith("system/")}
    assert attached == pytest.approx(result.metrics)
    assert model.status == "READY"
