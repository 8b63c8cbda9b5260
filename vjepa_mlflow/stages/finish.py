"""From the best head to a logged model: what a training run and a sweep end with."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from importlib import import_module
from threading import Thread

from vjepa_mlflow import evaluation, features, model, tracking, training
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.energy import Meter, Usage, describe_hardware
from vjepa_mlflow.stages.assess import LabelledSet, TrainingHistory, assess
from vjepa_mlflow.stages.prepare import Preparation, log_left_out
from vjepa_mlflow.stages.publish import Publication, publish
from vjepa_mlflow.stages.seen import Memory, describe_seen

logger = get_logger(__name__)


def finish(
    log: tracking.RunLog,
    painter: evaluation.Painter,
    prepared: Preparation,
    recipe: Recipe,
    *,
    source: features.FeatureSource,
    videos: LabelledSet,
    best: training.BestHead,
    backbone: model.WriteBackbone,
    epochs: list[dict[str, float]],
    meter: Meter,
    step: int,
    trials: int | None = None,
) -> tuple[str, dict[str, float]]:
    """Tests a head, once, and logs it with its backbone as a model, with a report and a model card.

    Args:
        log: of the run, which is the active one.
        painter: draws the report's figures.
        prepared: what the head was trained with.
        recipe: of its training.
        source: of the features.
        videos: the test set, see `test_videos`.
        best: the head.
        backbone: writes the weights that it is logged with, see `backbone_beside`.
        epochs: the metrics of every epoch of its training.
        meter: of the run's time and energy.
        step: of the metrics; MLflow attaches all that the run has logged with it to the model.
        trials: of the sweep that the head is the best of; None if it is none.

    Returns:
        The model's URI, of the registered version where the recipe names one, and the metrics of the test and of the
        run's time and energy.

    Raises:
        UndeliveredError: the tracking server, or the registry, has not taken everything.
    """
    head = prepared.head
    head.load_state_dict(best.weights)
    history = TrainingHistory(epochs, best_epoch=best.epoch)
    videos, predictions = videos.predict(head, source, precision=recipe.precision)
    log_left_out(log, source.left_out)
    memory, seen = Memory(prepared.seen), describe_seen(prepared.seen, videos.samples)
    log.params({"seen_videos": memory.describe(videos.samples)})
    if seen != "0":
        logger.info(memory.sentence("test", videos.samples))
    assessment = assess(
        log,
        painter,
        videos,
        predictions,
        title=f"{prepared.checkpoint.name} on {recipe.data}",
        facts={
            "Model": f"{prepared.checkpoint.name}, epoch {best.epoch} of {len(epochs)}",
            "Data": f"{recipe.data}, test",
            **({} if seen == "0" else {"Seen before": memory.describe(videos.samples)}),
            "MLflow run": log.run_id,
        },
        step=step,
        history=history,
    )
    found = assessment.found
    usage = meter.read()
    log.metrics(usage.metrics(), step=step)
    record = _record(log, prepared, recipe, history, usage, trials=trials, seen=seen)
    publication = _publication(record, found, head=model.weights_digest(best.weights), step=step)
    trained = model.Trained.of_head(prepared.checkpoint, prepared.dataset.labels, best.weights, backbone=backbone)
    try:
        uri = publish(log, trained, publication, seen=prepared.seen)
    finally:  # a model that the server has not taken, and its report, are uploaded together
        assessment.log_report(log)
    return uri, found.metrics_of("test") | usage.metrics()


def backbone_beside(prepared: Preparation, recipe: Recipe) -> AbstractContextManager[model.WriteBackbone]:
    """Writes the backbone that a head is logged with while a block trains or tests the head."""
    return model.written_beside(
        model.CheckpointBackbone(prepared.checkpoint, prepared.dataset.labels, seed=recipe.seed)
    )


def import_beside() -> None:
    """Imports, beside what follows, what only `finish` needs."""
    Thread(target=_import_the_rest, daemon=True).start()


def _import_the_rest() -> None:
    with suppress(Exception):  # which `finish` meets as well
        for module in ("card", "report", "results", "thumbnails"):
            import_module(f"vjepa_mlflow.evaluation.{module}")
        import_module("scipy.stats")


def test_videos(prepared: Preparation, recipe: Recipe) -> LabelledSet:
    """The test set, to be assessed on."""
    return LabelledSet(
        data=recipe.data,
        split="test",
        samples=prepared.dataset.splits["test"],
        labels=prepared.dataset.labels,
        num_clips=1,
        sampling=recipe.sampling(prepared.checkpoint.frames_per_clip),
        cache=recipe.cache,
    )


def _record(
    log: tracking.RunLog,
    prepared: Preparation,
    recipe: Recipe,
    history: TrainingHistory,
    usage: Usage,
    *,
    trials: int | None,
    seen: str,
) -> evaluation.TrainingRecord:
    from vjepa_mlflow.datasets import dataset_of_split

    dataset = prepared.dataset
    return evaluation.TrainingRecord(
        run_id=log.run_id,
        developer=log.user,
        recipe=recipe,
        checkpoint=prepared.checkpoint,
        architecture=prepared.backbone.architecture,
        parameters=prepared.parameters,
        labels=dataset.labels,
        datasets={split: dataset_of_split(samples, recipe.data, split) for split, samples in dataset.splits.items()},
        drawn=dataset.drawn,
        split_seed=dataset.seed,
        seen=seen,
        epochs=history.epochs,
        best_epoch=history.best_epoch,
        usage=usage,
        trials=trials,
        hardware=describe_hardware(),
        device=model.describe_device(prepared.backbone.device),
        versions=tracking.library_versions(),
    )


def _publication(
    record: evaluation.TrainingRecord, found: evaluation.Evaluation, *, head: str, step: int
) -> Publication:
    return Publication(
        stride=record.recipe.stride,
        frames_per_second=record.recipe.frames_per_second,
        precision=record.recipe.precision,
        step=step,
        head=head,
        model_card=evaluation.render_card(record, found),
        registered_model_name=record.recipe.registered_model_name,
        description=evaluation.summarize(record, found),
        tags=tracking.evaluation_tags(
            found.metrics_of("test"),
            split="test",
            num_clips=1,
            dataset=record.datasets["test"],
            seen=record.seen,
            run_id=record.run_id,
        ),
    )
