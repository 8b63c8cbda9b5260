import numpy as np
from matplotlib.figure import Figure

from vjepa_mlflow.evaluation import Prediction, plot_curves, prediction_sheet, thumbnails


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
    small = thumbnails(frames, count=4, height=20)
    assert small.shape == (4, 20, 30, 3)
    assert [int(frame.mean()) for frame in small] == [0, 5, 10, 15]


def test_the_sheet_takes_labels_of_any_kind() -> None:
    strip = np.zeros((6, 20, 30, 3), dtype=np.uint8)
    rows = [Prediction(strip, true="$x_", predicted="a\\b{", score=0.5), Prediction(strip, "a", "a", 1.0)]
    figure = prediction_sheet(rows)
    figure.canvas.draw()
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert isinstance(figure, Figure)
    assert texts == ["a\\b{  0.50", "true: $x_", "a  1.00", "true: a"]
