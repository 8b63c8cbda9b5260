"""The main job: from labelled videos to a logged model."""

from dataclasses import asdict, dataclass

import torch

from vjepa_mlflow import data, evaluation, features, flavor, model, training
from vjepa_mlflow.cache import cache_folder
from vjepa_mlflow.jobs.prepare import Fault, Preparation, prepare
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.tracking import RunLog, run_log

SHEET_ROWS = 12
MODEL_NAME = "model"


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Attributes:
        run_id: the MLflow run.
        model_uri: the logged model, or the registered version where a name was given.
        best_epoch: whose head the model has, counted from 1.
        metrics: that epoch's, and the test set's.
    """

    run_id: str
    model_uri: str
    best_epoch: int
    metrics: dict[str, float]


def train(recipe: Recipe) -> TrainingResult:
    """Trains the head of a frozen V-JEPA 2 on labelled videos and logs everything worth keeping to MLflow.

    Raises:
        UserError: something in the recipe or in what it names is not as expected.
    """
    with run_log() as log, model.matmul_precision(recipe.precision):
        log.params(asdict(recipe))
        flavor.check_registered_model_name(recipe.registered_model_name)
        prepared = prepare(recipe, on_faults=lambda faults: _log_faults(log, faults))
        _log_preparation(log, prepared, recipe)
        source = features.FeatureSource(prepared.classifier, prepared.processor, recipe)
        test = features.EvaluationSet(source, prepared.dataset, "test")
        head = model.Head(prepared.classifier)
        epochs: list[dict[str, float]] = []

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            epochs.append(metrics)
            log.metrics(metrics, step=epoch)
            _print_epoch(epoch, recipe.epochs, metrics)

        best = training.fit(
            head,
            prepared.classifier.config,
            train=features.TrainingSet(source, prepared.dataset, recipe),
            val=features.EvaluationSet(source, prepared.dataset, "val"),
            recipe=recipe,
            on_epoch=on_epoch,
            following=test.clips,
        )
        head.load_state_dict(best.weights)

        predictions = training.predict(head, test, precision=recipe.precision, name="Test")
        tested = training.classification_metrics(*predictions)
        test_metrics = {f"test_{name}": tested[name] for name in ("loss", "accuracy", "top5_accuracy")}
        # With the best epoch as their step, MLflow attaches them to the model beside that epoch's own metrics.
        log.metrics(test_metrics, step=best.epoch)
        curves = evaluation.plot_curves(epochs, best_epoch=best.epoch, test_accuracy=tested["accuracy"])
        log.figure(curves, "curves.png", step=best.epoch)
        sheet = evaluation.prediction_sheet(_sheet_rows(prepared, predictions, recipe))
        log.figure(sheet, "test_predictions.png", step=best.epoch)

        logged = flavor.log_model(
            prepared.classifier,
            prepared.processor,
            MODEL_NAME,
            stride=recipe.stride,
            registered_model_name=recipe.registered_model_name or None,
            step=best.epoch,
            input_example=flavor.example_input(data.draw_clip("slide_left", seed=0)),
        )
        source.finish()  # now, so that a full disk does not cost the trained head
        model_uri = logged.model_uri
        if recipe.registered_model_name:
            model_uri = f"models:/{recipe.registered_model_name}/{logged.registered_model_version}"
        return TrainingResult(log.run_id, model_uri, best.epoch, {**best.metrics, **test_metrics})


def _log_faults(log: RunLog, faults: list[Fault]) -> None:
    log.table(faults, "bad_videos.csv")
    print("Videos that cannot be used, all in the run's artifact bad_videos.csv:")


def _log_preparation(log: RunLog, prepared: Preparation, recipe: Recipe) -> None:
    counts = model.count_parameters(prepared.classifier)
    log.params(
        {
            "checkpoint": prepared.checkpoint.name,
            "checkpoint_revision": prepared.checkpoint.revision,
            "total_parameters": counts.total,
            "trainable_parameters": counts.trainable,
            "device_name": model.describe_device(prepared.classifier.device),
        }
    )
    log.dataset(prepared.dataset, data=recipe.data)


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


def _print_epoch(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
    print(
        f"Epoch {epoch}/{epochs}  "
        f"train loss {metrics['train_loss']:.4f}  accuracy {metrics['train_accuracy']:.3f}  |  "
        f"validation loss {metrics['val_loss']:.4f}  accuracy {metrics['val_accuracy']:.3f}  |  "
        f"{metrics['clips_per_second']:.1f} clips/s",
        flush=True,
    )
