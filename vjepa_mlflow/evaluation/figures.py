"""What one looks at after a run. Figures are narrow, so that a phone shows them as they are.

matplotlib is imported by what draws, which is another process most of the time: see `painter`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vjepa_mlflow.evaluation.factors import FACTORS, Slice
from vjepa_mlflow.evaluation.metrics import BINS, calibration_bins
from vjepa_mlflow.evaluation.predictions import VideoPredictions
from vjepa_mlflow.metrics import CURVES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG, QUIET = "#1b7837", "#b2182b", "#555555"
TRAIN, VAL = "#d95f02", "#1f5fa8"
WIDTH, EDGE = 5.2, 0.12
"""Of a figure, and beside and above its axes, in inches."""

POINTS_PER_INCH = 72
GAP = 4
"""White pixels between the frames of a strip."""

SHEET_WIDTH = 1.45
"""Of a sheet, in widths of a strip: the rest is for labels."""

NAMED_CLASSES, COUNTED_CLASSES = 40, 15
"""Classes that a confusion matrix has room to name, and to show the counts of."""


class Prediction(NamedTuple):
    """A video beside what the model says of it.

    Attributes:
        name: the video, as the data names it.
        frames: uint8 RGB of shape (frames, height, width, 3), as `read_thumbnails` gives them.
        true: its label.
        scores: the most probable labels and their probabilities, the first one first.
    """

    name: str
    frames: np.ndarray
    true: str
    scores: list[tuple[str, float]]

    @property
    def is_right(self) -> bool:
        return self.scores[0][0] == self.true


def plot_curves(epochs: Sequence[dict[str, float]], *, best_epoch: int, test_accuracy: float) -> Figure:
    """Loss and accuracy after each epoch.

    Args:
        epochs: the metrics of epoch 1, 2, ...
        best_epoch: whose head was tested.
        test_accuracy: of that head.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _plot(height=5.2, left=0.85)
    figure.subplots_adjust(hspace=0.08, top=1 - 0.3 / 5.2)  # where a factor of the losses is told, such as 1e-5
    steps = range(1, len(epochs) + 1)
    for axes, name in zip(figure.subplots(2, 1, sharex=True), CURVES, strict=True):
        axes.plot(steps, [metrics[f"train_{name}"] for metrics in epochs], "o-", color=TRAIN, label="train")
        axes.plot(steps, [metrics[f"val_{name}"] for metrics in epochs], "o-", color=VAL, label="validation")
        axes.axvline(best_epoch, color=QUIET, linewidth=0.8, linestyle=":")
        axes.set(ylabel=name.capitalize())
        axes.spines[["top", "right"]].set_visible(False)
    loss, accuracy = figure.axes
    loss.set_ylim(0, 1.08 * max(max(metrics["train_loss"], metrics["val_loss"]) for metrics in epochs))
    accuracy.set_ylim(0, 1.03)
    accuracy.set(xlabel="Epoch")
    accuracy.xaxis.set_major_locator(MaxNLocator(integer=True))
    accuracy.plot([best_epoch], [test_accuracy], "*", color=RIGHT, markersize=13, label=f"test, {test_accuracy:.2f}")
    accuracy.legend(frameon=False)
    figure.align_ylabels()
    return figure


def plot_confusion(predictions: VideoPredictions) -> Figure:
    """True classes against predicted ones; colours are shares of a row."""
    counts = predictions.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ticks = range(len(predictions.labels)) if len(predictions.labels) <= NAMED_CLASSES else []
    size = 9 if len(predictions.labels) <= COUNTED_CLASSES else 6
    names = [_shorten(label) for label in predictions.labels] if ticks else []
    room = _width(names, size=size)
    figure = _plot(height=5.2, left=0.45 + room, bottom=0.45 + room)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="Predicted", ylabel="True")
    axes.set_xticks(ticks, names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=size, parse_math=False)
    if len(predictions.labels) <= COUNTED_CLASSES:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=9)
    return figure


def plot_calibration(predictions: VideoPredictions) -> Figure:
    """How often the model is right, against how confident it is, over bins of confidence."""
    figure = _plot(height=3.6)
    axes = figure.subplots()
    bins = calibration_bins(predictions.confidences)
    counts = np.bincount(bins, minlength=BINS)
    accuracies = np.bincount(bins, weights=predictions.hits, minlength=BINS) / np.maximum(counts, 1)
    filled = counts > 0
    middles = (np.arange(BINS) + 0.5) / BINS
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
    axes.bar(middles[filled], accuracies[filled], width=0.9 / BINS, color=VAL, alpha=0.75)
    for middle, accuracy, count in zip(middles[filled], accuracies[filled], counts[filled], strict=True):
        axes.annotate(str(count), (middle, accuracy), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    axes.set(xlabel="Confidence", ylabel="Accuracy", xlim=(0, 1), ylim=(0, 1.1))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_slices(slices: Sequence[Slice], *, accuracy: float) -> Figure:
    """Accuracy of thirds of the set by each property, with intervals, if any; red where it is significantly worse.

    Args:
        slices: in the order of their properties.
        accuracy: of the whole set.
    """
    names = [f"{FACTORS[part.factor].title}, {part.tercile.removesuffix(' third')}" for part in slices]
    figure = _plot(height=1.2 + 0.26 * len(slices), left=0.2 + _width(names, size=9))
    axes = figure.subplots()
    axes.axvline(accuracy, color=QUIET, linewidth=0.8, linestyle=":")
    for row, part in enumerate(slices):
        colour = WRONG if part.worse else VAL
        if part.accuracy.ends is not None:
            axes.plot(part.accuracy.ends, [row, row], color=colour, linewidth=3, alpha=0.35)
        axes.plot([part.accuracy.value], [row], "o", color=colour)
    axes.set_yticks(range(len(slices)), names, fontsize=9)
    axes.set(xlabel="Accuracy", xlim=(-0.02, 1.02), ylim=(len(slices) - 0.5, -0.5))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def prediction_sheet(predictions: Sequence[Prediction]) -> Figure:
    """A strip of frames for each video, with its true label and the predicted one, green where they agree."""
    from matplotlib.figure import Figure

    strips = [join_frames(prediction.frames) for prediction in predictions]
    width = max(strip.shape[1] for strip in strips)
    height = max(strip.shape[0] for strip in strips) + GAP
    figure = Figure(figsize=(9, 9 * len(strips) * height / (width * SHEET_WIDTH)))
    # One picture in one pair of axes: many of them take matplotlib seconds to lay out.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    canvas = np.full((len(strips) * height, width, 3), 255, dtype=np.uint8)
    for row, (strip, prediction) in enumerate(zip(strips, predictions, strict=True)):
        canvas[row * height :][: strip.shape[0], : strip.shape[1]] = strip
        colour = RIGHT if prediction.is_right else WRONG
        (label, score), left = prediction.scores[0], 1.02 * width
        axes.text(left, (row + 0.4) * height, f"{label}  {score:.2f}", color=colour, fontsize=11, parse_math=False)
        axes.text(left, (row + 0.75) * height, f"true: {prediction.true}", color=QUIET, fontsize=9, parse_math=False)
    axes.imshow(canvas)
    axes.set(xlim=(0, SHEET_WIDTH * width), ylim=(len(canvas), 0))
    return figure


def draw(figure: Figure) -> bytes:
    """A figure as a PNG file, laid out and drawn once, where savefig does both twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def join_frames(frames: np.ndarray) -> np.ndarray:
    """Frames of shape (frames, height, width, 3) beside each other in one picture."""
    gaps = ((0, 0), (0, 0), (0, GAP), (0, 0))
    return np.concatenate(list(np.pad(frames, gaps, constant_values=255)), axis=1)[:, :-GAP]


def _plot(*, height: float, left: float = 0.65, bottom: float = 0.55) -> Figure:
    """An empty figure of some inches, with so many of them beside and below its axes.

    matplotlib's own layouts would find them by drawing everything once more.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=150)
    figure.subplots_adjust(left=left / WIDTH, right=1 - EDGE / WIDTH, bottom=bottom / height, top=1 - EDGE / height)
    return figure


def _width(texts: Sequence[str], *, size: float) -> float:
    """Of the longest text, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that a font lacks, which drawing tells of as well
        widths = [text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] for text in texts]
    return max(widths, default=0) / POINTS_PER_INCH


def _shorten(label: str, *, longest: int = 24) -> str:
    return label if len(label) <= longest else f"{label[: longest - 1]}…"
