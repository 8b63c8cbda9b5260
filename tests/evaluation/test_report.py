from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from evaluations import predictions_of_hits, random_predictions

from vjepa_mlflow.evaluation import Evaluation, Prediction, evaluate, render_report
from vjepa_mlflow.video import VideoProperties

HOSTILE = "<script>document.title = 'hacked'</script>\"'&\n"


def properties(videos: int, **columns: np.ndarray) -> list[VideoProperties]:
    generator = np.random.default_rng(1)
    values = {field.name: generator.random(videos) for field in fields(VideoProperties)} | columns
    return [VideoProperties(**{name: float(column[row]) for name, column in values.items()}) for row in range(videos)]


def write_report(evaluation: Evaluation, path: Path) -> Path:
    strip = np.random.default_rng(0).integers(0, 255, size=(6, 96, 128, 3), dtype=np.uint8)
    shown = [Prediction(evaluation.names[row], strip, HOSTILE, [(HOSTILE, 0.5), ("b", 0.2)]) for row in range(3)]
    text = render_report(
        f"A report on {HOSTILE}",
        evaluation,
        facts={"Data": HOSTILE, "Long": "x" * 200},
        figures={},
        mistakes=shown,
        hits=[],
        epochs=[{"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}],
    )
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def report(tmp_path: Path) -> tuple[Evaluation, Path]:
    predictions = random_predictions(videos=60, classes=6)
    predictions.labels[0], predictions.labels[1] = HOSTILE, "w" * 100
    evaluation = evaluate([f"{HOSTILE}{row}.mp4" for row in range(60)], predictions, properties(60))
    return evaluation, write_report(evaluation, tmp_path / "report.html")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_alone_and_whatever_is_in_the_names(
    browser: Browser, report: tuple[Evaluation, Path], width: int
) -> None:
    evaluation, path = report
    visit = browser.visit(path, width=width)
    assert (visit.errors, visit.requests, visit.broken) == ([], [], 0)
    assert visit.width <= width
    assert visit.metrics == evaluation.values
    assert "<script>document.title = 'hacked'</script>" in visit.text


def test_it_says_where_the_model_is_weak(browser: Browser, tmp_path: Path) -> None:
    light = np.random.default_rng(2).random(90)
    predictions = predictions_of_hits(light > 0.3)
    evaluation = evaluate([str(row) for row in range(90)], predictions, properties(90, brightness=light))
    text = browser.visit(write_report(evaluation, tmp_path / "report.html")).text
    assert "Brightness, lowest third" in text
    assert "significantly worse than the rest" in text
    assert "No slice of the set" not in text


def test_it_says_that_groups_were_reckoned_with(report: tuple[Evaluation, Path], tmp_path: Path) -> None:
    assert "Fisher" in report[1].read_text()
    predictions = predictions_of_hits(np.arange(40) % 5 > 0, groups=np.arange(40) // 4)
    grouped = write_report(evaluate([str(row) for row in range(40)], predictions, properties(40)), tmp_path / "g.html")
    assert "leaving out one group after the other" in grouped.read_text()
    assert "too few groups" not in grouped.read_text()


def test_it_says_where_there_are_too_few_groups_for_an_interval(browser: Browser, tmp_path: Path) -> None:
    predictions = predictions_of_hits(np.arange(40) % 5 > 0, groups=np.arange(40) % 3)
    visit = browser.visit(
        write_report(evaluate([str(row) for row in range(40)], predictions, properties(40)), tmp_path / "g")
    )
    assert visit.errors == []
    assert visit.text.count("too few groups") >= len(visit.metrics)
    assert "None" not in visit.text
