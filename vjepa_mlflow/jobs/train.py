"""The main job: from labelled videos to a logged model."""

from dataclasses import asdict, dataclass

from vjepa_mlflow import features, flavor, model, training
from vjepa_mlflow.energy import metering
from vjepa_mlflow.jobs.finish import finish, test_videos
from vjepa_mlflow.jobs.prepare import log_faults, log_preparation, prepare
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.tracking import run_log


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Attributes:
        run_id: the MLflow run.
        model_uri: the logged model, or the registered version where a name was given.
        best_epoch: whose head the model has, counted from 1.
        metrics: that epoch's, the test set's, and those of the run's time and energy.
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
    with run_log() as log, metering(recipe.country) as meter, model.matmul_precision(recipe.precision):
        log.params(asdict(recipe))
        flavor.check_registered_model_name(recipe.registered_model_name)
        prepared = prepare(recipe, on_faults=lambda faults: log_faults(log, faults))
        log_preparation(log, prepared, recipe)
        source = features.FeatureSource(prepared.classifier, prepared.processor, recipe)
        videos = test_videos(prepared, recipe)
        _ = videos.properties  # measured now, so that a bad video does not cost the trained head

        def on_epoch(state: training.TrainingState) -> None:
            log.metrics(state.epochs[-1], step=len(state.epochs))
            _print_epoch(len(state.epochs), recipe.epochs, state.epochs[-1])

        trained = training.fit(
            model.Head(prepared.classifier),
            prepared.classifier.config,
            train=features.TrainingSet(source, prepared.dataset, recipe),
            val=features.EvaluationSet.of_split(source, prepared.dataset, "val"),
            recipe=recipe,
            on_epoch=on_epoch,
            following=features.evaluation_clips(videos.samples),
        )
        best = trained.best
        # The test's metrics stand beside those of the best epoch.
        model_uri, metrics = finish(
            log,
            prepared,
            recipe,
            source=source,
            videos=videos,
            best=best,
            epochs=trained.epochs,
            meter=meter,
            step=best.epoch,
        )
        source.finish()  # now, so that a full disk does not cost the trained head
        return TrainingResult(log.run_id, model_uri, best.epoch, {**best.metrics, **metrics})


def _print_epoch(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
    print(
        f"Epoch {epoch}/{epochs}  "
        f"train loss {metrics['train_loss']:.4f}  accuracy {metrics['train_accuracy']:.3f}  |  "
        f"validation loss {metrics['val_loss']:.4f}  accuracy {metrics['val_accuracy']:.3f}  |  "
        f"{metrics['clips_per_second']:.1f} clips/s",
        flush=True,
    )
