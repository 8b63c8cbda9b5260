"""A model's answers beside the truth, against scikit-learn."""

import numpy as np
from evaluations import random_predictions
from sklearn.metrics import confusion_matrix

from vjepa_mlflow.evaluation import VideoPredictions


def test_the_confusion_is_scikit_learns_with_classes_that_do_not_occur() -> None:
    predictions = random_predictions(videos=40, classes=9)
    few = VideoPredictions(
        predictions.labels, predictions.targets[:5], predictions.probabilities[:5], predictions.groups[:5]
    )
    for one in (predictions, few):
        expected = confusion_matrix(one.targets, one.probabilities.argmax(axis=1), labels=range(9))
        assert np.array_equal(one.confusion, expected)
        assert one.hits.sum() == np.trace(expected)
        assert len(one) == expected.sum()


def test_the_first_of_equally_probable_classes_is_predicted() -> None:
    predictions = VideoPredictions(
        ["a", "b", "c"], np.array([1, 2]), np.array([[0.2, 0.4, 0.4], [0.5, 0, 0.5]]), np.arange(2)
    )
    assert predictions.predicted.tolist() == [1, 0]
    assert predictions.confidences.tolist() == [0.4, 0.5]
    assert predictions.hits.tolist() == [True, False]


def test_videos_are_grouped_where_any_two_belong_together() -> None:
    probabilities = np.full((3, 2), 0.5)
    for groups, grouped in (([0, 1, 2], False), ([7, 5, 3], False), ([0, 1, 0], True)):
        assert VideoPredictions(["a", "b"], np.zeros(3, int), probabilities, np.array(groups)).grouped == grouped
