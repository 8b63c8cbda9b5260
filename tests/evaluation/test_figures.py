import numpy as np
import pytest
from evaluations import predictions_of_hits, random_predictions
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vjepa_mlflow.evaluation import (
    Prediction,
    choose_thumbnails,
    plot_calibration,
    plot_confusion,
    plot_curves,
    plot_slices,
    prediction_sheet,
    slice_by_factors,
)


def test_curves_show_the_metrics_of_each_epoch() -> None:
    epochs = [
        {"train_loss": 2.0, "val_loss": 1.8, "train_accuracy": 0.2, "val_accuracy": 0.3},
        {"train_loss": 1.0, "val_loss": 1.2, "train_accuracy": 0.6, "val_accuracy": 0.5},
    ]
    figure = plot_curves(epochs, best_epoch=2, test_accuracy=0.4)
    loss, accuracy = figure.axes
    assert [line.get_ydata().tolist() for line in loss.lines[:2]] == [[2.0, 1.0], [1.8, 1.2]]
    assert [line.get_ydata().tolist() for line in accuracy.lines[:2]] == [[0.2, 0.6], [0.3, 0.5]]


def test_thumbnails_are_spread_over_the_clip_and_keep_their_shape() -> None:
    frames = np.repeat(np.arange(16, dtype=np.uint8), 40 * 60 * 3).reshape(16, 40, 60, 3)
    small = choose_thumbnails(frames, count=4, height=20)
    assert small.shape == (4, 20, 30, 3)
    assert [int(frame.mean()) for frame in small] == [0, 5, 10, 15]


def test_the_sheet_takes_labels_of_any_kind() -> None:
    strip = np.zeros((6, 20, 30, 3), dtype=np.uint8)
    wide = np.zeros((6, 20, 50, 3), dtype=np.uint8)
    rows = [
        Prediction("1.mp4", strip, true="$x_", scores=[("a\\b{", 0.5), ("c", 0.4)]),
        Prediction("2.mp4", wide, true="a", scores=[("a", 1.0)]),
    ]
    figure = prediction_sheet(rows)
    FigureCanvasAgg(figure).draw()
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert isinstance(figure, Figure)
    assert texts == ["a\\b{  0.50", "true: $x_", "a  1.00", "true: a"]


@pytest.mark.parametrize("loss", [1e-5, 0.7, 1e7])
def test_curves_have_room_for_losses_of_any_size(loss: float) -> None:
    epochs = [{"train_loss": loss, "val_loss": 2 * loss, "train_accuracy": 0.5, "val_accuracy": 0.5}] * 3
    figure = plot_curves(epochs, best_epoch=1, test_accuracy=0.5)
    FigureCanvasAgg(figure).draw()
    inside = figure.get_tightbbox().get_points() / figure.get_size_inches()
    assert (inside >= 0).all()
    assert (inside <= 1).all()


@pytest.mark.parametrize("classes", [2, 30, 60])
def test_a_confusion_matrix_has_room_for_its_classes(classes: int) -> None:
    predictions = random_predictions(videos=300, classes=classes)
    figure = plot_confusion(predictions)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    assert axes.images[0].get_array().shape == (classes, classes)
    assert len(axes.get_xticklabels()) == (classes if classes <= 40 else 0)
    counts = [int(text.get_text()) for text in axes.texts]
    assert sum(counts) == (300 if classes <= 15 else 0)


def test_calibration_shows_the_accuracy_of_each_bin() -> None:
    predictions = predictions_of_hits(np.array([True, True, False, True]))
    (axes,) = plot_calibration(predictions).axes
    bars = {round(bar.get_x() + bar.get_width() / 2, 3): bar.get_height() for bar in axes.patches}
    assert bars == {round(13.5 / 15, 3): 1.0, round(11.5 / 15, 3): 0.0}


def test_slices_are_drawn_with_their_intervals() -> None:
    values = np.arange(90.0)
    slices = slice_by_factors(predictions_of_hits(values > 25), {"brightness": values})
    (axes,) = plot_slices(slices, accuracy=0.7).axes
    ends = [list(line.get_xdata()) for line in axes.lines[1::2]]
    assert ends == [[part.accuracy.low, part.accuracy.high] for part in slices]
    few = slice_by_factors(predictions_of_hits(values > 25, np.arange(90) % 3), {"brightness": values})
    (without,) = plot_slices(few, accuracy=0.7).axes
    assert len(without.lines) == len(axes.lines) - len(slices)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "Brightness, lowest",
        "Brightness, middle",
        "Brightness, highest",
    ]
