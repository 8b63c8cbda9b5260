import numpy as np
import pytest
from evaluations import predictions_of_hits, random_predictions
from scipy import stats
from sklearn import metrics
from sklearn.calibration import calibration_curve

from vjepa_mlflow.evaluation import VideoPredictions, measure, measure_classes


@pytest.fixture
def predictions() -> VideoPredictions:
    return random_predictions(videos=150, classes=7)


def test_metrics_are_scikit_learns(predictions: VideoPredictions) -> None:
    targets, probabilities, predicted = predictions.targets, predictions.probabilities, predictions.predicted
    classes = range(7)
    accuracies, confidences = calibration_curve(predictions.hits, predictions.confidences, n_bins=15)
    counts = np.histogram(predictions.confidences, bins=15, range=(0, 1))[0]
    expected = {
        "accuracy": metrics.accuracy_score(targets, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(targets, predicted),
        "top5_accuracy": metrics.top_k_accuracy_score(targets, probabilities, k=5, labels=classes),
        "macro_f1": metrics.f1_score(targets, predicted, average="macro"),
        "loss": metrics.log_loss(targets, probabilities, labels=classes),
        "calibration_error": np.abs(accuracies - confidences) @ counts[counts > 0] / len(targets),
    }
    assert {name: estimate.value for name, estimate in measure(predictions).items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("balanced_accuracy", metrics.balanced_accuracy_score),
        ("macro_f1", lambda true, predicted: metrics.f1_score(true, predicted, average="macro")),
    ],
)
@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_their_intervals_are_scipys(predictions: VideoPredictions, name: str, score) -> None:
    def statistic(rows: np.ndarray) -> float:
        return score(predictions.targets[rows], predictions.predicted[rows])

    rows = np.arange(len(predictions))
    expected = stats.bootstrap(
        (rows,), statistic, vectorized=False, n_resamples=999, method="BCa", rng=0
    ).confidence_interval
    found = measure(predictions)[name]
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.15 * width)


def test_classes_are_scikit_learns_the_most_difficult_first(predictions: VideoPredictions) -> None:
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        predictions.targets, predictions.predicted, zero_division=0
    )
    found = measure_classes(predictions)
    for result in found:
        index = predictions.labels.index(result.label)
        expected = (precision[index], recall[index], f1[index], support[index])
        assert (result.precision, result.recall.value, result.f1, result.support) == pytest.approx(expected)
    recalls = [result.recall.value for result in found]
    assert recalls == sorted(recalls)


def test_a_class_says_what_it_is_taken_for() -> None:
    predicted = np.array([1, 1, 2, 0, 1, 2])
    predictions = VideoPredictions(["a", "b", "c"], np.array([0, 0, 0, 0, 1, 2]), np.eye(3)[predicted], np.arange(6))
    results = {result.label: result.confused_with for result in measure_classes(predictions)}
    assert results == {"a": [("b", 2), ("c", 1)], "b": [], "c": []}


def test_classes_that_do_not_occur_and_certain_mistakes_do_no_harm() -> None:
    predictions = VideoPredictions(
        ["a", "b", "c"], np.array([0, 0]), np.array([[1.0, 0, 0], [0, 1.0, 0]]), np.arange(2)
    )
    found = measure(predictions)
    assert found["balanced_accuracy"].value == 0.5
    assert np.isfinite(found["loss"].value)
    assert [result.label for result in measure_classes(predictions)] == ["a"]


def test_a_loss_holds_what_it_would_be_with_the_mistakes_that_a_set_has_or_lacks_by_luck() -> None:
    found = measure(predictions_of_hits(np.ones(40, dtype=bool), np.arange(40) % 5))
    further = (1 - found["accuracy"].low) * np.log(0.9 / 0.1)
    assert found["loss"] == pytest.approx((-np.log(0.9), -np.log(0.9), -np.log(0.9) + further))
    found = measure(predictions_of_hits(np.zeros(40, dtype=bool), np.arange(40) % 5))
    less = found["accuracy"].high * np.log(0.8 / 0.2)
    assert found["loss"] == pytest.approx((-np.log(0.2), -np.log(0.2) - less, -np.log(0.2)))


@pytest.mark.parametrize("seed", range(5))
def test_a_confidence_that_is_right_may_have_no_calibration_error(seed: int) -> None:
    generator = np.random.default_rng(seed)
    confidences = generator.uniform(0.5, 1, size=80)
    probabilities = np.stack([confidences, 1 - confidences], axis=1)
    targets = (generator.random(80) > confidences).astype(int)
    error = measure(VideoPredictions(["a", "b"], targets, probabilities, np.arange(80)))["calibration_error"]
    assert error.low == 0 < 0.03 < error.value < error.high


@pytest.mark.parametrize("right", [True, False])
def test_a_set_without_variety_is_not_taken_for_certainty(right: bool) -> None:
    targets = np.arange(30) % 3
    predictions = VideoPredictions(
        ["a", "b", "c"], targets, np.eye(3)[targets if right else (targets + 1) % 3], np.arange(30)
    )
    found = measure(predictions)
    for name in ("balanced_accuracy", "macro_f1"):
        assert found[name] == found["accuracy"]
        assert found[name].high - found[name].low > 0.1
