"""What one looks at after a run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

RIGHT, WRONG, QUIET = "#1b7837", "#b2182b", "#555555"
GAP = 4
"""White pixels between the frames of a strip."""
TRAIN, VAL = "#d95f02", "#1f5fa8"


class Prediction(NamedTuple):
    """A test video beside what the model says of it.

    Attributes:
        frames: uint8 RGB of shape (frames, height, width, 3), as `read_thumbnails` gives them.
        true: its label.
        predicted: the most probable label.
        score: that label's probability.
    """

    frames: np.ndarray
    true: str
    predicted: str
    score: float


def plot_curves(epochs: Sequence[dict[str, float]], *, best_epoch: int, test_accuracy: float) -> Figure:
    """Loss and accuracy after each epoch.

    Args:
        epochs: the metrics of epoch 1, 2, ...
        best_epoch: whose head was tested.
        test_accuracy: of that head.
    """
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    steps = range(1, len(epochs) + 1)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(steps, [metrics[f"train_{name}"] for metrics in epochs], "o-", color=TRAIN, label="train")
        axes.plot(steps, [metrics[f"val_{name}"] for metrics in epochs], "o-", color=VAL, label="validation")
        axes.axvline(best_epoch, color=QUIET, linewidth=0.8, linestyle=":")
        axes.set(title=name.capitalize(), xlabel="epoch", xticks=steps)
        axes.spines[["top", "right"]].set_visible(False)
    loss, accuracy = figure.axes
    loss.set_ylim(0, 1.08 * max(max(metrics["train_loss"], metrics["val_loss"]) for metrics in epochs))
    accuracy.set_ylim(0, 1.03)
    accuracy.plot([best_epoch], [test_accuracy], "*", color=RIGHT, markersize=13, label=f"test, {test_accuracy:.2f}")
    accuracy.legend(frameon=False)
    return figure


def prediction_sheet(predictions: Sequence[Prediction]) -> Figure:
    """A strip of frames for each video, with its true label and the predicted one, green where they agree."""
    figure = Figure(figsize=(9, 1.05 * len(predictions)), layout="constrained")
    grid = figure.subplots(len(predictions), 2, width_ratios=[4, 1.6], squeeze=False)
    for (strip, text), prediction in zip(grid, predictions, strict=True):
        gaps = ((0, 0), (0, 0), (0, GAP), (0, 0))
        strip.imshow(np.concatenate(list(np.pad(prediction.frames, gaps, constant_values=255)), axis=1))
        colour = RIGHT if prediction.true == prediction.predicted else WRONG
        text.text(
            0, 0.62, f"{prediction.predicted}  {prediction.score:.2f}", color=colour, fontsize=11, parse_math=False
        )
        text.text(0, 0.22, f"true: {prediction.true}", color=QUIET, fontsize=9, parse_math=False)
        strip.axis("off")
        text.axis("off")
    return figure
