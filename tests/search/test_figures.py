"""The pictures and the tables of a small study with every kind of end."""

from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from search.conftest import PLAN

from vjepa_mlflow import Recipe
from vjepa_mlflow.search import (
    METRICS,
    SharedStudy,
    SweepPlan,
    TrialQueue,
    compare,
    describe_trial,
    plot_epochs,
    plot_history,
    plot_importances,
    plot_pair,
    read_plan,
    trial_rows,
)


@pytest.fixture
def ended(url: str, plan: SweepPlan) -> TrialQueue:
    return do_trials(url, plan)


def do_trials(url: str, plan: SweepPlan) -> TrialQueue:
    """Four completed trials, of which the third is the best, one pruned and one failed."""
    shared = SharedStudy(url, "study")
    shared.create(plan, {})
    trials = shared.queue(plan, Recipe(), count=6, on_interrupted=lambda _: None)
    for value in (0.4, 0.5, 0.8, 0.6, "pruned", "failed"):
        running = trials.take_next()
        assert running is not None
        plan.space.suggest(running.trial)
        trials.report(running, 1, 0.3)
        if isinstance(value, float):
            trials.report(running, 2, value)
            attributes = {METRICS: {"val_accuracy": value, "val_loss": 1.0}, "best_epoch": 2, "seconds": 1.5}
            trials.complete(running, value, attributes)
        elif value == "pruned":
            trials.prune(running, {"seconds": 0.5})
        else:
            trials.fail(running, "training loss became nan", {"seconds": 0.1})
    return trials


def test_the_history_has_every_trial_and_the_baseline(ended: TrialQueue, plan: SweepPlan) -> None:
    (axes,) = plot_history(ended.trials(), plan).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["completed"] == [0.4, 0.5, 0.8, 0.6]
    assert lines["best so far"] == [0.4, 0.5, 0.8, 0.8]
    assert lines["pruned, its last value"] == [0.3]
    assert lines["baseline"] == [0.4, 0.4]
    assert "failed" in lines


def test_the_search_space_has_the_baseline_and_the_best_marked(ended: TrialQueue, plan: SweepPlan) -> None:
    axes = plot_pair(ended.trials(), plan).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == (
        "learning_rate",
        "gradient_accumulation_steps",
        "log",
    )
    marks = {str(line.get_label()): line.get_xydata()[0].tolist() for line in axes.lines}
    best = ended.trials()[2].frozen.params
    assert marks == {
        "best, 0.800": [best["learning_rate"], (1, 2, 4, 8, 16).index(best["gradient_accumulation_steps"])],
        "baseline, 0.400": [1e-5, 2],
    }
    assert len(axes.collections[0].get_offsets()) == 4


def test_one_field_alone_is_drawn_against_the_metric(tmp_path: Path, url: str) -> None:
    text = "\n".join(line for line in PLAN.splitlines() if "accumulation" not in line)
    (tmp_path / "one.yaml").write_text(text)
    plan = read_plan(tmp_path / "one.yaml")
    axes = plot_pair(do_trials(url, plan).trials(), plan).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning_rate", "val_accuracy")


def test_importances_and_what_is_drawn_where_there_are_none(ended: TrialQueue, plan: SweepPlan) -> None:
    (axes,) = plot_importances(ended.trials(), plan).axes
    assert {label.get_text() for label in axes.get_yticklabels()} == set(plan.space.fields)
    (axes,) = plot_importances(ended.trials()[:1], plan).axes
    assert [text.get_text() for text in axes.texts] == ["too few completed trials, or all alike"]


def test_every_trials_epochs_are_drawn(ended: TrialQueue, plan: SweepPlan) -> None:
    (axes,) = plot_epochs(ended.trials(), plan).axes
    assert len(axes.lines) == 6
    named = {str(line.get_label()): list(line.get_ydata()) for line in axes.lines if "trial" in str(line.get_label())}
    assert named == {"baseline (trial 0)": [0.3, 0.4], "best (trial 2)": [0.3, 0.8]}


def test_each_is_laid_out_within_its_picture(ended: TrialQueue, plan: SweepPlan) -> None:
    trials = ended.trials()
    for plot in (plot_history, plot_pair, plot_importances, plot_epochs):
        figure = plot(trials, plan)
        FigureCanvasAgg(figure).draw()
        inside = figure.get_tightbbox().get_points() / figure.get_size_inches()
        assert (inside >= 0).all()
        assert (inside <= 1).all()


def test_the_tables(ended: TrialQueue, plan: SweepPlan) -> None:
    trials = ended.trials()
    rows = trial_rows(trials, plan)
    assert [row["state"] for row in rows] == ["COMPLETE"] * 4 + ["PRUNED", "FAIL"]
    assert rows[0]["learning_rate"] == 1e-5
    assert rows[5]["failure"] == "training loss became nan"
    assert describe_trial(trials[0], plan) == (
        "Trial   0  COMPLETE  val_accuracy 0.4000  learning_rate 1e-05  gradient_accumulation_steps 4  1.5 s"
    )
    assert "FAIL      training loss became nan" in describe_trial(trials[5], plan)
    head, baseline, best, difference = compare(trials, plan, seconds=12.0).splitlines()
    assert head.split() == ["trial", "val_accuracy", "learning_rate", "gradient_accumulation_steps", "time"]
    assert baseline.split() == ["baseline", "0", "0.4000", "1e-05", "4", "1.5", "s"]
    assert best.split()[:3] == ["best", "2", "0.8000"]
    assert difference.split() == ["difference", "+0.4000", "12.0", "s", "for", "this", "command"]
