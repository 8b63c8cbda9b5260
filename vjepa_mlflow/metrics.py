"""What each metric is called, what it means, which way it is better and who has it: said here, and nowhere else.

How it is computed stands where the predictions are: `training/metrics.py` has those of an epoch, in PyTorch, and
`evaluation/metrics.py` those of a set that a model is assessed on, in NumPy and with intervals.
"""

from typing import Literal, NamedTuple

Direction = Literal["maximize", "minimize"]


class Metric(NamedTuple):
    """A figure of a model on a set.

    Attributes:
        title: what people read.
        meaning: in a few words.
        direction: which way it is better.
        of_epochs: whether the validation after each epoch has it, so that heads may be chosen by it.
        of_sets: whether a set that a model is assessed on has it.
    """

    title: str
    meaning: str
    direction: Direction = "maximize"
    of_epochs: bool = False
    of_sets: bool = True


METRICS = {
    "accuracy": Metric("Accuracy", "share of videos whose most probable class is the true one", of_epochs=True),
    "balanced_accuracy": Metric("Balanced accuracy", "mean recall over the classes", of_epochs=True),
    "top5_accuracy": Metric(
        "Top-5 accuracy", "share of videos whose true class is among the five most probable", of_epochs=True
    ),
    "macro_f1": Metric("Macro F1", "mean over the classes of the harmonic mean of precision and recall"),
    "loss": Metric(
        "Log loss",
        "mean negative logarithm of the true class's probability, in nats; lower is better",
        "minimize",
        of_epochs=True,
    ),
    "calibration_error": Metric(
        "Calibration error",
        "how far confidence and accuracy are apart, over 15 bins of confidence; lower is better",
        "minimize",
    ),
}
"""By their names in MLflow without the set's, in the order in which they are shown."""

CURVES = ("loss", "accuracy")
"""The metrics of an epoch that its training set has as well: what the curves and the tables of epochs show."""

EPOCH_COLUMNS = {
    f"{split}_{name}": f"{title} {name}"
    for split, title in {"train": "Train", "val": "Validation"}.items()
    for name in CURVES
}
"""The heading of each column of such a table, by the name that the metric has in MLflow."""


def is_better(value: float, than: float, *, name: str) -> bool:
    """Whether a model that has a metric's value does better than one that has another.

    Args:
        value: of the one model.
        than: of the other.
        name: the metric's in MLflow, with the set's. Of what is no metric of this project, more is better.
    """
    known = max((known for known in METRICS if name.endswith(known)), key=len, default=None)
    return value < than if known and METRICS[known].direction == "minimize" else value > than
