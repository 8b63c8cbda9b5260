"""Trials as rows of tables, and as lines."""

from collections.abc import Mapping, Sequence
from typing import Any

from vjepa_mlflow.search.plan import SweepPlan
from vjepa_mlflow.search.study import METRICS, best_trial
from vjepa_mlflow.search.trials import SweepTrial
from vjepa_mlflow.terminal.columns import align

BEST_EPOCH = "best_epoch"
SECONDS = "seconds"
"""Attributes of a trial that has ended: the epoch that its value is of, and how long it took."""


def trial_rows(trials: Sequence[SweepTrial], plan: SweepPlan) -> list[dict[str, Any]]:
    """A row for each trial, in the order of their numbers; the first one is the baseline."""
    return [_row(trial, plan) for trial in trials]


def _row(trial: SweepTrial, plan: SweepPlan) -> dict[str, Any]:
    attributes = trial.frozen.user_attrs
    return {
        "trial": trial.number,
        "state": trial.state,
        plan.metric: trial.frozen.value,
        **{field: trial.frozen.params.get(field) for field in plan.space.fields},
        "best_epoch": attributes.get(BEST_EPOCH),
        "val_loss": attributes.get(METRICS, {}).get("val_loss"),
        "seconds": attributes.get(SECONDS),
        "attempts": len(trial.frozen_trials),
        "failure": trial.failure,
    }


def describe_trial(trial: SweepTrial, plan: SweepPlan) -> str:
    """One line about a trial that has ended."""
    row = _row(trial, plan)
    outcome = row["failure"] or f"{plan.metric} {trial.value:.4f}"
    values = "  ".join(f"{field} {_short(row[field])}" for field in plan.space.fields)
    return f"Trial {trial.number:>3}  {trial.state:<8}  {outcome}  {values}  {_time(row)}".rstrip()


def compare(trials: Sequence[SweepTrial], plan: SweepPlan, *, seconds: float) -> str:
    """The baseline beside the best trial, as a table.

    Args:
        trials: of the study; the first one is the baseline.
        plan: of the sweep.
        seconds: how long this process worked on it.
    """
    best = best_trial(trials, plan.metric)
    head = ["", "trial", plan.metric, *plan.space.fields, "time"]
    rows = [head, _cells("baseline", trials[0], plan)]
    if best is not None:
        rows.append(_cells("best", best, plan))
        difference = "" if trials[0].state != "COMPLETE" else f"{best.value - trials[0].value:+.4f}"
        rows.append(
            ["difference", "", difference, *("" for _ in plan.space.fields), f"{seconds:.1f} s for this command"]
        )
    return "\n".join(align(rows))


def _cells(name: str, trial: SweepTrial, plan: SweepPlan) -> list[str]:
    row = _row(trial, plan)
    value = trial.state if trial.state != "COMPLETE" else f"{trial.value:.4f}"
    return [name, str(trial.number), value, *(_short(row[field]) for field in plan.space.fields), _time(row)]


def _time(row: Mapping[str, Any]) -> str:
    """How long a trial took, which nobody knows of one whose process died."""
    return "" if row["seconds"] is None else f"{row['seconds']:.1f} s"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
