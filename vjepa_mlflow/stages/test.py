"""What a trained head says of the videos that it has not seen: asked once, when nothing is chosen any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vjepa_mlflow import evaluation, tracking
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.stages.fit import TrainedHead
from vjepa_mlflow.stages.labelled_set import LabelledSet
from vjepa_mlflow.stages.seen import Memory, describe_seen

logger = get_logger(__name__)


@dataclass(frozen=True)
class TestedModel:
    """What a model says of labelled videos, before it is said how good that is.

    Attributes:
        videos: the set, without those that went bad.
        predictions: the model's.
        title: of the report.
        facts: what the report says was evaluated, as names and values.
        seen: how many of the videos the model was trained or validated on, or `unknown`.
        step: of the metrics.
        trained: the head, if the model comes from a training in this run.
        model_id: of the logged model that the metrics are of, if there is one already.
    """

    videos: LabelledSet
    predictions: evaluation.VideoPredictions
    title: str
    facts: Mapping[str, str]
    seen: str
    step: int
    trained: TrainedHead | None = None
    model_id: str | None = None


def test(log: tracking.RunLog, trained: TrainedHead) -> TestedModel:
    """Asks the head for its answers to the test set.

    Raises:
        UserError: an answer is no number, or none of the videos can be read any more.
    """
    prepared, best = trained.prepared, trained.best
    prepared.head.load_state_dict(best.weights)
    videos, predictions = trained.test_videos.predict(
        prepared.head, trained.source, precision=prepared.recipe.precision
    )
    log_left_out(log, trained.source.left_out)
    memory, seen = Memory(prepared.seen), describe_seen(prepared.seen, videos.samples)
    described = memory.describe(videos.samples)
    log.params({"seen_videos": described})
    if seen != "0":
        logger.info(memory.sentence("test", videos.samples))
    name, data = prepared.checkpoint.name, prepared.recipe.data
    facts = {
        "Model": f"{name}, epoch {best.epoch} of {len(trained.epochs)}",
        "Data": f"{data}, test",
        **({} if seen == "0" else {"Seen before": described}),
        "MLflow run": log.run_id,
    }
    return TestedModel(videos, predictions, f"{name} on {data}", facts, seen, trained.step, trained)


def log_left_out(log: tracking.RunLog, left_out: Mapping[str, str]) -> None:
    """Logs the videos that went bad after the check, by name, with what is wrong with them, if there are any."""
    if left_out:
        log.table([{"path": name, "fault": fault} for name, fault in left_out.items()], "left_out_videos.csv")
