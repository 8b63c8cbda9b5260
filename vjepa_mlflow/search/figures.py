"""What one looks at after a sweep. What draws imports matplotlib, as in `evaluation/figures.py`, and scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import optuna

from vjepa_mlflow.search.plan import SweepPlan
from vjepa_mlflow.search.quiet import quiet_optuna
from vjepa_mlflow.search.space import Dimension
from vjepa_mlflow.search.study import best_trial
from vjepa_mlflow.search.trials import SweepTrial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS, LINE, BASELINE, BEST, QUIET = "#7fa6cf", "#1f5fa8", "#d95f02", "#1b7837", "#999999"
WIDTH = 8
"""Inches; a hundred pixels each."""


def plot_history(trials: Sequence[SweepTrial], plan: SweepPlan) -> Figure:
    """Every trial's value in the order of their numbers, the best so far, and the baseline's."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure("Optimisation history", "trial", plan.metric)
    completed = _completed(trials)
    axes.plot(*_columns(completed), "o", color=DOTS, label="completed")
    pruned = [(trial.number, trial.value) for trial in trials if trial.state == "PRUNED"]
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", color=QUIET, label="pruned, its last value")
    failed = [trial.number for trial in trials if trial.state == "FAIL"]
    for number in failed:
        axes.axvline(number, color=QUIET, linestyle=":", label="failed" if number == failed[0] else None)
    if completed:
        numbers, values = _columns(completed)
        better = max if plan.direction == "maximize" else min
        best = [better(values[: index + 1]) for index in range(len(values))]
        axes.step(numbers, best, where="post", color=LINE, label="best so far")
        if completed[0] is trials[0]:
            axes.axhline(values[0], color=BASELINE, linewidth=1, linestyle="--", label="baseline")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure)
    return figure


def plot_pair(trials: Sequence[SweepTrial], plan: SweepPlan) -> Figure:
    """Two fields against each other, the metric as colour, with the baseline and the best trial marked.

    They are the learning rate and the accumulation where the space has both, otherwise its first two; with one field
    alone the metric is the other axis.
    """
    x, y = _choose_pair(list(plan.space.dimensions))
    figure, axes = _figure(f"{plan.metric} over the search space", x.field, y.field if y else plan.metric)
    completed = _completed(trials)
    if not completed:
        return figure
    _set_scale(axes, "x", x)
    if y is not None:
        _set_scale(axes, "y", y)
    values = [trial.value for trial in completed]

    def places(chosen: Iterable[SweepTrial]) -> tuple[list[Any], list[Any]]:
        trials = list(chosen)
        return [_place(trial, x) for trial in trials], [_place(trial, y) if y else trial.value for trial in trials]

    dots = axes.scatter(*places(completed), c=values, cmap="viridis", s=70, zorder=3)
    if y is not None:
        figure.colorbar(dots, label=plan.metric)
    best = best_trial(trials, plan.metric)
    if best is not None:
        axes.plot(*places([best]), "o", markersize=15, markerfacecolor="none", markeredgewidth=2, color=BEST, zorder=4,
                  label=f"best, {best.value:.3f}")  # fmt: skip
    if completed[0] is trials[0]:
        axes.plot(*places(completed[:1]), "*", markersize=16, color=BASELINE, markeredgecolor="white", zorder=5,
                  label=f"baseline, {values[0]:.3f}")  # fmt: skip
    _legend(figure)
    return figure


def plot_importances(trials: Sequence[SweepTrial], plan: SweepPlan) -> Figure:
    """How much of the metric's variation each field explains, by Optuna's default evaluator."""
    figure, axes = _figure("Parameter importances", "share of the variation explained", "")
    importances = _importances(trials, plan)
    if not importances:
        axes.text(0.5, 0.5, "too few completed trials, or all alike", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return figure
    names = list(reversed(importances))
    bars = axes.barh(names, [importances[name] for name in names], color=LINE, height=0.6)
    axes.bar_label(bars, fmt=" %.2f", fontsize=9)
    axes.set_xlim(0, 1.08 * max(importances.values()))
    return figure


def plot_epochs(trials: Sequence[SweepTrial], plan: SweepPlan) -> Figure:
    """The metric after each epoch of every trial."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure("Intermediate values", "epoch", plan.metric)
    best = best_trial(trials, plan.metric)
    for trial in trials:
        if trial.frozen.intermediate_values:
            _plot_trial(axes, trial, is_baseline=trial is trials[0], is_best=trial is best)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure)
    return figure


def _plot_trial(axes: Axes, trial: SweepTrial, *, is_baseline: bool, is_best: bool) -> None:
    epochs, values = zip(*sorted(trial.frozen.intermediate_values.items()), strict=True)
    pruned = trial.state == "PRUNED"
    colour = BEST if is_best else BASELINE if is_baseline else QUIET if pruned else DOTS
    names = [name for name, applies in (("baseline", is_baseline), ("best", is_best)) if applies]
    axes.plot(
        epochs,
        values,
        "x--" if pruned else ".-",
        color=colour,
        linewidth=2.2 if names else 1,
        zorder=3 if names else 2,
        label=f"{' and '.join(names)} (trial {trial.number})" if names else None,
    )


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=12)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(figure: Figure) -> None:
    """Below the axes, where it hides no trial."""
    if any(axes.get_legend_handles_labels()[0] for axes in figure.axes):
        figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)


def _completed(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    return [trial for trial in trials if trial.state == "COMPLETE"]


def _columns(trials: Sequence[SweepTrial]) -> tuple[list[int], list[Any]]:
    return [trial.number for trial in trials], [trial.value for trial in trials]


def _choose_pair(dimensions: list[Dimension]) -> tuple[Dimension, Dimension | None]:
    named = {dimension.field: dimension for dimension in dimensions}
    wanted = [named[name] for name in ("learning_rate", "gradient_accumulation_steps") if name in named]
    first, *others = wanted + [dimension for dimension in dimensions if dimension not in wanted]
    return first, others[0] if others else None


def _set_scale(axes: Axes, axis: str, dimension: Dimension) -> None:
    if dimension.choices:
        getattr(axes, f"set_{axis}ticks")(range(len(dimension.choices)), [str(choice) for choice in dimension.choices])
        getattr(axes, f"set_{axis}lim")(-0.5, len(dimension.choices) - 0.5)
    elif dimension.log:
        getattr(axes, f"set_{axis}scale")("log")


def _place(trial: SweepTrial, dimension: Dimension) -> Any:
    value = trial.frozen.params[dimension.field]
    return dimension.choices.index(value) if dimension.choices else value


def _importances(trials: Sequence[SweepTrial], plan: SweepPlan) -> dict[str, float]:
    """Each field's share, the largest first; nothing of few trials."""
    from optuna.importance import get_param_importances

    completed = _completed(trials)
    if len({trial.value for trial in completed}) < 2:
        return {}
    with quiet_optuna(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few trials
        study = optuna.create_study(direction=plan.direction)
        study.add_trials([trial.frozen for trial in completed])
        return get_param_importances(study)
