"""The pictures of a small study with every kind of end."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from search.conftest import PLAN, do_trials

from vjepa_mlflow.search import (
    SweepPlan,
    TrialQueue,
    plot_epochs,
    plot_history,
    plot_importances,
    plot_pair,
    read_plan,
)


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
