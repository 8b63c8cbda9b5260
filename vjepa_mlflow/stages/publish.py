"""A trained model to the tracking server and the registry: now, or later from the folder where it was kept."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vjepa_mlflow import data, flavor, model, tracking
from vjepa_mlflow.errors import UserError, expected, one_line
from vjepa_mlflow.stages.describe import Publication, describe

if TYPE_CHECKING:
    from vjepa_mlflow.runtime.energy import Usage
    from vjepa_mlflow.stages.assess import Assessment
    from vjepa_mlflow.stages.prepare import Preparation


MODEL_NAME = "model"
HEAD_TAG = "vjepa_mlflow.head"
"""The tag of a logged model that holds the digest of its head's weights: by it a run that goes on finds it."""


class FinishedModel(NamedTuple):
    """A model with all that goes with it.

    Attributes:
        trained: its weights.
        publication: its card, and where it goes.
        seen: what it was trained, validated and tested on; None where that is not known.
    """

    trained: model.Trained
    publication: Publication
    seen: data.SeenVideos | None


def publish(log: tracking.RunLog, assessment: Assessment, *, backbone: model.WriteBackbone, usage: Usage) -> str:
    """Logs the model that was assessed, with its card, and the report.

    Args:
        log: of the run, which is the active one.
        assessment: of a head that was trained in the run.
        backbone: writes the weights that the head is logged with, see `backbone_beside`.
        usage: of the run, time and energy.

    Returns:
        The model's URI, of the registered version where the recipe names one.

    Raises:
        UndeliveredError: the tracking server, or the registry, has not taken everything.
    """
    trained = assessment.tested.trained
    assert trained is not None, "an evaluation has no model of its own"
    log.metrics(usage.metrics(), step=trained.step)
    prepared = trained.prepared
    weights = model.Trained.of_head(
        prepared.checkpoint, prepared.dataset.labels, trained.best.weights, backbone=backbone
    )
    publication = describe(log, assessment, trained, usage)
    try:
        return _publish(log, FinishedModel(weights, publication, prepared.seen))
    finally:  # a model that the server has not taken, and its report, are uploaded together
        assessment.log_report(log)


def backbone_beside(prepared: Preparation) -> AbstractContextManager[model.WriteBackbone]:
    """Writes the backbone that a head is logged with while a block trains or tests the head."""
    return model.written_beside(
        model.CheckpointBackbone(prepared.checkpoint, prepared.dataset.labels, seed=prepared.recipe.seed)
    )


def publish_kept(log: tracking.RunLog) -> str | None:
    """Logs the model that was kept in the log's folder, and returns its URI.

    None where there is none, or where it is damaged, which is told when the log is closed.
    """
    log.deliver()
    try:
        publication = tracking.read_publication(log.folder)
    except tracking.DamageError:
        return None
    if publication is None:
        return None
    checkpoint = flavor.fetch_model(str(log.folder / tracking.MODEL)).as_checkpoint()
    finished = FinishedModel(
        model.Trained.of_whole(checkpoint), Publication(**publication), data.read_seen(checkpoint.folder)
    )
    return _publish(log, finished)


def _publish(log: tracking.RunLog, finished: FinishedModel) -> str:
    """Logs a model after all that its run has logged, registers it where that is asked for, and returns its URI.

    What an earlier attempt of the run has done of this is not done again.

    Raises:
        UndeliveredError: the tracking server or the registry has not taken it; it is in the log's folder.
    """
    try:
        log.deliver()
        return _register(_log(log.run_id, finished), finished.publication)
    except Exception as error:  # each store's client has errors of its own, and a trained model is worth more than any
        _keep(log.folder, finished)
        log.leave_end()
        raise error if isinstance(error, tracking.UndeliveredError) else log.undelivered(error) from error


def _log(run_id: str, finished: FinishedModel) -> str:
    """The id of the logged model."""
    publication = finished.publication
    model_id = tracking.find_logged_model(run_id, HEAD_TAG, publication.head)
    if model_id is not None:
        return model_id
    logged = flavor.log_trained(
        finished.trained,
        MODEL_NAME,
        run_id=run_id,
        step=publication.step,
        tags={HEAD_TAG: publication.head},
        seen=finished.seen,
        **_contents(publication),
    )
    return str(logged.model_id)


def _register(model_id: str, publication: Publication) -> str:
    """The model's URI: that of a registered version where there is to be one."""
    name = publication.registered_model_name
    if not name:
        return f"models:/{model_id}"
    version = tracking.register_model(name, model_id)
    tracking.describe_version(name, version, publication.description)
    tracking.tag_version(name, version, publication.tags)
    return f"models:/{name}/{version}"


def _keep(folder: Path, finished: FinishedModel) -> None:
    """Keeps the model in a folder, from which it is logged later."""
    if (folder / tracking.MODEL_NOTE).exists():
        return
    unnamed = folder / tracking.UNNAMED_MODEL
    try:
        flavor.save_trained(finished.trained, unnamed, seen=finished.seen, **_contents(finished.publication))
        tracking.write_about(folder / tracking.MODEL_NOTE, asdict(finished.publication), unnamed)
        tracking.name_model(folder)
    except OSError as error:
        raise UserError(
            f"{folder}: the model cannot be kept there ({one_line(error)}): expected {expected(error)}"
        ) from error


def _contents(publication: Publication) -> dict[str, Any]:
    """What is saved with a model."""
    return {
        "stride": publication.stride,
        "frames_per_second": publication.frames_per_second,
        "config": flavor.ServingConfig(precision=publication.precision),
        "model_card": publication.model_card,
        "input_example": flavor.example_input(flavor.example_video()),
    }
