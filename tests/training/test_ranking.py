"""Which epochs are better than others."""

import pytest

from vjepa_mlflow.training import DIRECTIONS, rank

WORSE = {name: 0.4 if direction == "maximize" else 0.6 for name, direction in DIRECTIONS.items()}


@pytest.mark.parametrize("metric", DIRECTIONS)
def test_an_epoch_ranks_by_the_metric_in_its_direction(metric: str) -> None:
    better = WORSE | {metric: 0.5}
    assert rank(better, metric) > rank(WORSE, metric)


@pytest.mark.parametrize("metric", DIRECTIONS)
def test_nothing_but_the_metric_and_the_loss_decides(metric: str) -> None:
    others = {name: 0.5 for name in DIRECTIONS if name not in (metric, "val_loss")}
    assert rank(WORSE | others, metric) == rank(WORSE, metric)


def test_equal_epochs_are_told_apart_by_their_loss() -> None:
    assert rank(WORSE | {"val_loss": 0.5}, "val_accuracy") > rank(WORSE, "val_accuracy")
    assert rank(WORSE | {"val_loss": 0.5, "val_accuracy": 0.3}, "val_accuracy") < rank(WORSE, "val_accuracy")
