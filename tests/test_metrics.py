"""The table of metrics: that who computes them and who shows them has just these."""

import pytest
import torch
from evaluations import random_predictions

from vjepa_mlflow.evaluation import TITLES, measure
from vjepa_mlflow.metrics import EPOCH_COLUMNS, METRICS, is_better
from vjepa_mlflow.training import DIRECTIONS, classification_metrics


def test_heads_are_chosen_by_what_an_epochs_validation_has() -> None:
    assert DIRECTIONS == {
        "val_accuracy": "maximize",
        "val_balanced_accuracy": "maximize",
        "val_top5_accuracy": "maximize",
        "val_loss": "minimize",
    }
    measured = classification_metrics(torch.eye(3), torch.tensor([0, 1, 2]))
    assert {f"val_{name}" for name in measured} == DIRECTIONS.keys()


def test_a_set_is_measured_by_what_is_shown_of_it_in_this_order() -> None:
    assert list(TITLES.items()) == [
        ("accuracy", "Accuracy"),
        ("balanced_accuracy", "Balanced accuracy"),
        ("top5_accuracy", "Top-5 accuracy"),
        ("macro_f1", "Macro F1"),
        ("loss", "Log loss"),
        ("calibration_error", "Calibration error"),
    ]
    assert list(measure(random_predictions(videos=20, classes=3))) == list(TITLES)


def test_a_metric_that_is_better_where_it_is_low_says_so() -> None:
    for metric in METRICS.values():
        assert metric.meaning.endswith("lower is better") == (metric.direction == "minimize")


def test_tables_of_epochs_show_both_sets_of_a_training() -> None:
    assert list(EPOCH_COLUMNS.items()) == [
        ("train_loss", "Train loss"),
        ("train_accuracy", "Train accuracy"),
        ("val_loss", "Validation loss"),
        ("val_accuracy", "Validation accuracy"),
    ]


@pytest.mark.parametrize(
    ("name", "more_is_better"),
    [("test_accuracy", True), ("val_loss", False), ("all_calibration_error", False), ("test_of_a_user", True)],
)
def test_a_model_is_better_by_the_metrics_direction(name: str, more_is_better: bool) -> None:
    assert is_better(0.6, 0.5, name=name) == more_is_better
    assert is_better(0.5, 0.6, name=name) != more_is_better
    assert not is_better(0.5, 0.5, name=name)
