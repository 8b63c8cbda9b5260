"""The model card of a training run, in Hugging Face's format, with every figure from the run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from vjepa_mlflow.datasets import LabelledVideos
from vjepa_mlflow.evaluation.factors import FACTORS
from vjepa_mlflow.evaluation.intervals import TOO_FEW, Estimate
from vjepa_mlflow.evaluation.metrics import TITLES
from vjepa_mlflow.evaluation.results import Evaluation
from vjepa_mlflow.evaluation.templates import fill
from vjepa_mlflow.model import Architecture, Checkpoint, ParameterCounts
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.energy import Usage

FEW_VIDEOS = 20
"""Test videos of a class below which the card says that they are few."""

UNEVEN = 3
"""How many times as many training videos one class may have as another before the card says so."""

MISCALIBRATED = 0.05
"""Difference of mean confidence and accuracy from which on the card speaks of it."""

LIBRARY = "mlflow"
"""What loads the model. Of transformers the Hub would show `pipeline("video-classification")`, which looks for a number
of frames that a V-JEPA 2's configuration does not have, and would spread them over the whole video."""


@dataclass(frozen=True)
class TrainingRecord:
    """What a model card tells of the training.

    Attributes:
        run_id: the MLflow run.
        developer: whose run it is.
        recipe: its values.
        checkpoint: what it started from.
        architecture: of the model.
        parameters: of the model.
        labels: the classes.
        datasets: the sets by split.
        drawn: which splits were drawn.
        split_seed: by which seed.
        seen: how many test videos were trained or validated on, here or before; or `unknown`.
        epochs: the metrics of each epoch.
        best_epoch: whose head the model has.
        usage: time and energy.
        trials: of the sweep that the training comes from; None if it is none.
        hardware: in words.
        device: what trained, in words.
        versions: of the software, by parameter name.
    """

    run_id: str
    developer: str
    recipe: Recipe
    checkpoint: Checkpoint
    architecture: Architecture
    parameters: ParameterCounts
    labels: list[str]
    datasets: Mapping[str, LabelledVideos]
    drawn: Sequence[str]
    split_seed: int
    seen: str
    epochs: Sequence[Mapping[str, float]]
    best_epoch: int
    usage: Usage
    trials: int | None
    hardware: str
    device: str
    versions: Mapping[str, str]

    @property
    def seen_sentence(self) -> str:
        """What the test's videos are to the model, as a part of a sentence."""
        if self.seen == "0":
            return "none of which was trained on or used to choose the epoch"
        if self.seen == "unknown":
            return "some of which the model before may have been trained on: what it has seen is not known"
        return f"{self.seen} of which were trained or validated on before: its figures are not those of a test"

    @property
    def title(self) -> str:
        return f"V-JEPA 2 for {self.datasets['test'].name.removesuffix('-test')}"


def render_card(record: TrainingRecord, evaluation: Evaluation) -> str:
    """Writes the model card.

    Args:
        record: of the training.
        evaluation: on the test set.
    """
    content = fill(
        "card.md",
        evaluation,
        filters={"cell": _cell, "code": _code, "interval": _interval},
        **{name: getattr(record, name) for name in record.__dataclass_fields__ if name != "recipe"},
        card_data=_metadata(record, evaluation).to_yaml(),
        recipe=asdict(record.recipe),
        title=record.title,
        seen_sentence=record.seen_sentence,
        summary=summarize(record, evaluation),
        num_frames=record.architecture.frames_per_clip,
        crop_size=record.architecture.crop_size,
        limits=_limits(record, evaluation),
    )
    return str(ModelCard(content))


def summarize(record: TrainingRecord, evaluation: Evaluation) -> str:
    """What a registered version's description says, in some sentences."""
    accuracy, hardest = evaluation.metrics["accuracy"], evaluation.classes[0]
    weak = "; ".join(f"{FACTORS[part.factor].title.lower()}, {part.tercile}" for part in evaluation.weaknesses)
    interval = f"{TOO_FEW} for a 95% interval" if accuracy.ends is None else f"95% interval {_interval(accuracy)}"
    best = f"epoch {record.best_epoch} of {len(record.epochs)}"
    return (
        f"{_code(record.checkpoint.name)} with a head for {len(record.labels)} classes, trained on "
        f"{_code(record.recipe.data)}; the head is that of {best}. Test accuracy {accuracy.value:.4f} ("
        f"{interval}) over {len(evaluation.predictions)} videos, {record.seen_sentence}; most difficult class: "
        f"{_code(hardest.label)} (recall {hardest.recall.value:.4f}). Significantly worse than the rest: "
        f"{weak or (f'{TOO_FEW} to tell' if evaluation.untested else 'no slice of the test set')}."
    )


def _metadata(record: TrainingRecord, evaluation: Evaluation) -> ModelCardData:
    test = record.datasets["test"]
    return ModelCardData(
        base_model=record.checkpoint.name,
        library_name=LIBRARY,
        pipeline_tag="video-classification",
        tags=["vjepa2", "mlflow", "vjepa-mlflow"],
        model_name=record.title,
        eval_results=[
            EvalResult(
                task_type="video-classification",
                dataset_type=test.name,
                dataset_name=test.name,
                dataset_split="test",
                dataset_revision=test.digest,
                metric_type=name,
                metric_name=TITLES[name],
                metric_value=value,
            )
            for name, value in evaluation.values.items()
            if record.seen == "0"
        ],
    )


def _limits(record: TrainingRecord, evaluation: Evaluation) -> list[str]:
    """What the run's figures say of where not to trust the model."""
    accuracy, predictions = evaluation.metrics["accuracy"], evaluation.predictions
    limits = [f"It was tested on {len(predictions)} videos{_where_it_may_lie(accuracy)}"]
    few = [result for result in evaluation.classes if result.support < FEW_VIDEOS]
    if few:
        limits.append(f"{len(few)} of {len(evaluation.classes)} classes have fewer than {FEW_VIDEOS} test videos.")
    trained = record.datasets["train"].profile["videos_by_class"]
    most, fewest = max(trained, key=trained.get), min(trained, key=trained.get)
    if trained[most] >= UNEVEN * trained[fewest]:
        limits.append(
            f"Training was uneven: {trained[most]} videos of {_code(most)} and {trained[fewest]} of {_code(fewest)}."
        )
    if record.drawn:
        limits.append("The test set was drawn from the same source as the training set, which other videos are not.")
    hardest = evaluation.classes[0]
    if hardest.confused_with:
        label, count = hardest.confused_with[0]
        limits.append(
            f"The most difficult class, {_code(hardest.label)}, is recognised in {hardest.recall.value:.4f} of its "
            f"videos, and taken for {_code(label)} in {count}."
        )
    limits += [
        f"It is significantly worse where {FACTORS[part.factor].title.lower()} is in the {part.tercile} of the test "
        f"set ({part.span}): accuracy {part.accuracy.value:.4f}."
        for part in evaluation.weaknesses
    ]
    confidence = float(predictions.confidences.mean())
    if abs(confidence - accuracy.value) >= MISCALIBRATED:
        kind = "over" if confidence > accuracy.value else "under"
        limits.append(
            f"It is {kind}confident: its mean confidence is {confidence:.4f}, its accuracy {accuracy.value:.4f}."
        )
    return limits


def _where_it_may_lie(accuracy: Estimate) -> str:
    """Accuracy on other videos, as the end of a sentence."""
    if accuracy.ends is None:
        return (
            f", of {TOO_FEW} to say where its accuracy on others of the same kind may lie; on other kinds of video it "
            "may lie anywhere at all."
        )
    return (
        f": its accuracy on others of the same kind may lie anywhere from {_interval(accuracy)}, and on other kinds of "
        "video anywhere at all."
    )


def _interval(estimate: Estimate) -> str:
    return estimate.interval(4)


def _cell(text: str) -> str:
    """A label as a table takes it, whatever is in it."""
    for character in "\\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def _code(text: str) -> str:
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"
