"""From the best head to a logged model: what a training run and a sweep end with."""

import torch

from vjepa_mlflow import data, evaluation, features, flavor, model, training
from vjepa_mlflow.cache import cache_folder
from vjepa_mlflow.jobs.prepare import Preparation
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.tracking import RunLog

SHEET_ROWS = 12
MODEL_NAME = "model"


def finish(
    log: RunLog,
    prepared: Preparation,
    test: features.EvaluationSet,
    best: training.BestHead,
    epochs: list[dict[str, float]],
    recipe: Recipe,
    *,
    step: int,
) -> tuple[str, dict[str, float]]:
    """Tests a head, once, and logs it with its backbone as a model, with figures.

    Args:
        log: of the run, which is the active one.
        prepared: what the head was trained with.
        test: the test features.
        best: the head.
        epochs: the metrics of every epoch of its training.
        recipe: of its training.
        step: of the metrics; MLflow attaches all that the run has logged with it to the model.

    Returns:
        The model's URI, of the registered version where the recipe names one, and the test metrics.
    """
    head = model.Head(prepared.classifier)
    head.load_state_dict(best.weights)
    predictions = training.predict(head, test, precision=recipe.precision, name="Test")
    tested = training.classification_metrics(*predictions)
    test_metrics = {f"test_{name}": tested[name] for name in ("loss", "accuracy", "top5_accuracy")}
    log.metrics(test_metrics, step=step)
    curves = evaluation.plot_curves(epochs, best_epoch=best.epoch, test_accuracy=tested["accuracy"])
    log.figure(curves, "curves.png", step=step)
    sheet = evaluation.prediction_sheet(_sheet_rows(prepared, predictions, recipe))
    log.figure(sheet, "test_predictions.png", step=step)

    logged = flavor.log_model(
        prepared.classifier,
        prepared.processor,
        MODEL_NAME,
        stride=recipe.stride,
        registered_model_name=recipe.registered_model_name or None,
        step=step,
        input_example=flavor.example_input(data.draw_clip("left_clockwise", seed=0)),
    )
    if recipe.registered_model_name:
        return f"models:/{recipe.registered_model_name}/{logged.registered_model_version}", test_metrics
    return logged.model_uri, test_metrics


def _sheet_rows(
    prepared: Preparation, predictions: training.Predictions, recipe: Recipe
) -> list[evaluation.Prediction]:
    """Test videos spread evenly over the set, and so over the classes."""
    samples = prepared.dataset.splits["test"]
    scores, predicted = predictions.logits.softmax(dim=-1).max(dim=-1)
    chosen = torch.linspace(0, len(samples) - 1, min(SHEET_ROWS, len(samples))).round().int().tolist()
    return [
        evaluation.Prediction(
            frames=evaluation.read_thumbnails(
                samples[row],
                num_frames=prepared.checkpoint.frames_per_clip,
                stride=recipe.stride,
                kept=cache_folder() / "thumbnails" if recipe.cache == "disk" else None,
            ),
            true=samples[row].label,
            predicted=prepared.dataset.labels[int(predicted[row])],
            score=float(scores[row]),
        )
        for row in chosen
    ]
