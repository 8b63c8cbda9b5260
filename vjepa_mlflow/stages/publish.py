"""A trained model to the tracking server and the registry: now, or later from the folder where it was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vjepa_mlflow import data, flavor, model, tracking
from vjepa_mlflow.errors import UserError, expected, one_line

MODEL_NAME = "model"
HEAD_TAG = "vjepa_mlflow.head"
"""The tag of a logged model that holds the digest of its head's weights: by it a run that goes on finds it."""


@dataclass(frozen=True)
class Publication:
    """What goes with a model.

    Attributes:
        stride: frames from one sampled frame to the next.
        precision: that it was trained in.
        step: of the run's metrics that are the model's as well.
        head: the digest of the head's weights.
        model_card: in Hugging Face's format.
        registered_model_name: to register it under; empty for no registration.
        description: of the registered version.
        tags: of the registered version.
        frames_per_second: how many are sampled of a second, instead of every stride-th; 0, as what an older version
            of the package kept: by stride.
    """

    stride: int
    precision: str
    step: int
    head: str
    model_card: str
    registered_model_name: str
    description: str
    tags: Mapping[str, str]
    frames_per_second: float = 0.0


def publish(
    log: tracking.RunLog,
    trained: model.Trained,
    publication: Publication,
    *,
    seen: data.SeenVideos | None,
) -> str:
    """Logs a model after all that its run has logged, registers it where that is asked for, and returns its URI.

    What an earlier attempt of the run has done of this is not done again.

    Raises:
        UndeliveredError: the tracking server or the registry has not taken it; it is in the log's folder.
    """
    try:
        log.deliver()
        return _publish(log.run_id, trained, publication, seen)
    except Exception as error:  # each store's client has errors of its own, and a trained model is worth more than any
        _keep(log.folder, trained, publication, seen)
        log.leave_end()
        raise error if isinstance(error, tracking.UndeliveredError) else log.undelivered(error) from error


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
    kept = flavor.fetch_model(str(log.folder / tracking.MODEL)).as_checkpoint()
    return publish(log, model.Trained.of_whole(kept), Publication(**publication), seen=data.read_seen(kept.folder))


def _publish(
    run_id: str,
    trained: model.Trained,
    publication: Publication,
    seen: data.SeenVideos | None,
) -> str:
    model_id = tracking.find_logged_model(run_id, HEAD_TAG, publication.head)
    if model_id is None:
        logged = flavor.log_trained(
            trained,
            MODEL_NAME,
            run_id=run_id,
            step=publication.step,
            tags={HEAD_TAG: publication.head},
            seen=seen,
            **_contents(publication),
        )
        model_id = str(logged.model_id)
    name = publication.registered_model_name
    if not name:
        return f"models:/{model_id}"
    version = tracking.register_model(name, model_id)
    tracking.describe_version(name, version, publication.description)
    tracking.tag_version(name, version, publication.tags)
    return f"models:/{name}/{version}"


def _keep(
    folder: Path,
    trained: model.Trained,
    publication: Publication,
    seen: data.SeenVideos | None,
) -> None:
    if (folder / tracking.MODEL_NOTE).exists():
        return
    unnamed = folder / tracking.UNNAMED_MODEL
    try:
        flavor.save_trained(trained, unnamed, seen=seen, **_contents(publication))
        tracking.write_about(folder / tracking.MODEL_NOTE, asdict(publication), unnamed)
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
