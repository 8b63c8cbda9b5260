"""What one looks at after a sweep. What draws imports matplotlib, as in `evaluation/figures.py`, and scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import optuna

from vjepa_mlflow.search.plan import SweepPlan
from vjepa_mlflow.search.slots import Slot
from vjepa_mlflow.search.space import Dimension
from vjepa_mlflow.search.study import best_slot, quiet_optuna

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS, LINE, BASELINE, BEST, QUIET = "#7fa6cf", "#1f5fa8", "#d95f02", "#1b7837", "#999999"
WIDTH = 8
"""Inches; a hundred pixels each."""


def plot_history(slots: Sequence[Slot], plan: SweepPlan) -> Figure:
    """Every trial's value in the order of their numbers, the best so far, and the baseline's."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure("Optimisation history", "trial", plan.metric)
    completed = _completed(slots)
    axes.plot(*_columns(completed), "o", color=DOTS, label="completed")
    pruned = [(slot.number, slot.value) for slot in slots if slot.state == "PRUNED"]
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", color=QUIET, label="pruned, its last value")
    failed = [slot.number for slot in slots if slot.state == "FAIL"]
    for number in failed:
        axes.axvline(number, color=QUIET, linestyle=":", label="failed" if number == failed[0] else None)
    if completed:
        numbers, values = _columns(completed)
        better = max if plan.direction == "maximize" else min
        best = [better(values[: index + 1]) for index in range(len(values))]
        axes.step(numbers, best, where="post", color=LINE, label="best so far")
        if completed[0] is slots[0]:
            axes.axhline(values[0], color=BASELINE, linewidth=1, linestyle="--", label="baseline")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure)
    return figure


def plot_pair(slots: Sequence[Slot], plan: SweepPlan) -> Figure:
    """Two fields against each other, the metric as colour, with the baseline and the best trial marked.

    They are the learning rate and the accumulation where the space has both, otherwise its first two; with one field
    alone the metric is the other axis.
    """
    x, y = _choose_pair(list(plan.space.dimensions))
    figure, axes = _figure(f"{plan.metric} over the search space", x.field, y.field if y else plan.metric)
    completed = _completed(slots)
    if not completed:
        return figure
    _set_scale(axes, "x", x)
    if y is not None:
        _set_scale(axes, "y", y)
    values = [slot.value for slot in completed]

    def places(chosen: Iterable[Slot]) -> tuple[list[Any], list[Any]]:
        slots = list(chosen)
        return [_place(slot, x) for slot in slots], [_place(slot, y) if y else slot.value for slot in slots]

    dots = axes.scatter(*places(completed), c=values, cmap="viridis", s=70, zorder=3)
    if y is not None:
        figure.colorbar(dots, label=plan.metric)
    best = best_slot(slots, plan.metric)
    if best is not None:
        axes.plot(*places([best]), "o", markersize=15, markerfacecolor="none", markeredgewidth=2, color=BEST, zorder=4,
                  label=f"best, {best.value:.3f}")  # fmt: skip
    if completed[0] is slots[0]:
        axes.plot(*places(completed[:1]), "*", markersize=16, color=BASELINE, markeredgecolor="white", zorder=5,
                  label=f"baseline, {values[0]:.3f}")  # fmt: skip
    _legend(figure)
    return figure


def plot_importances(slots: Sequence[Slot], plan: SweepPlan) -> Figure:
    """How much of the metric's variation each field explains, by Optuna's default evaluator."""
    figure, axes = _figure("Parameter importances", "share of the variation explained", "")
    importances = _importances(slots, plan)
    if not importances:
        axes.text(0.5, 0.5, "too few completed trials, or all alike", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return figure
    names = list(reversed(importances))
    bars = axes.barh(names, [importances[name] for name in names], color=LINE, height=0.6)
    axes.bar_label(bars, fmt=" %.2f", fontsize=9)
    axes.set_xlim(0, 1.08 * max(importances.values()))
    return figure


def plot_epochs(slots: Sequence[Slot], plan: SweepPlan) -> Figure:
    """The metric after each epoch of every trial."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure("Intermediate values", "epoch", plan.metric)
    best = best_slot(slots, plan.metric)
    for slot in slots:
        if slot.trial.intermediate_values:
            _plot_trial(axes, slot, is_baseline=slot is slots[0], is_best=slot is best)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure)
    return figure


def _plot_trial(axes: Axes, slot: Slot, *, is_baseline: bool, is_best: bool) -> None:
    epochs, values = zip(*sorted(slot.trial.intermediate_values.items()), strict=True)
    pruned = slot.state == "PRUNED"
    colour = BEST if is_best else BASELINE if is_baseline else QUIET if pruned else DOTS
    names = [name for name, applies in (("baseline", is_baseline), ("best", is_best)) if applies]
    axes.plot(
        epochs,
        values,
        "x--" if pruned else ".-",
        color=colour,
        linewidth=2.2 if names else 1,
        zorder=3 if names else 2,
        label=f"{' and '.join(names)} (trial {slot.number})" if names else None,
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


def _completed(slots: Sequence[Slot]) -> list[Slot]:
    return [slot for slot in slots if slot.state == "COMPLETE"]


def _columns(slots: Sequence[Slot]) -> tuple[list[int], list[Any]]:
    return [slot.number for slot in slots], [slot.value for slot in slots]


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


def _place(slot: Slot, dimension: Dimension) -> Any:
    value = slot.trial.params[dimension.field]
    return dimension.choices.index(value) if dimension.choices else value


def _importances(slots: Sequence[Slot], plan: SweepPlan) -> dict[str, float]:
    """Each field's share, the largest first; nothing of few trials."""
    from optuna.importance import get_param_importances

    completed = _completed(slots)
    if len({slot.value for slot in completed}) < 2:
        return {}
    with quiet_optuna(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few trials
        study = optuna.create_study(direction=plan.direction)
        study.add_trials([slot.trial for slot in completed])
        return get_param_importances(study)
