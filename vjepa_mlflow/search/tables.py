"""What is told of trials, in rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from vjepa_mlflow.search.plan import SweepPlan
from vjepa_mlflow.search.slots import Slot
from vjepa_mlflow.search.study import METRICS, best_slot
from vjepa_mlflow.terminal.columns import align

BEST_EPOCH = "best_epoch"
SECONDS = "seconds"
"""Attributes of a trial that has ended: the epoch that its value is of, and how long it took."""


def trial_rows(slots: Sequence[Slot], plan: SweepPlan) -> list[dict[str, Any]]:
    """A row for each trial, in the order of their numbers; the first one is the baseline."""
    return [_row(slot, plan) for slot in slots]


def _row(slot: Slot, plan: SweepPlan) -> dict[str, Any]:
    attributes = slot.trial.user_attrs
    return {
        "trial": slot.number,
        "state": slot.state,
        plan.metric: slot.trial.value,
        **{field: slot.trial.params.get(field) for field in plan.space.fields},
        "best_epoch": attributes.get(BEST_EPOCH),
        "val_loss": attributes.get(METRICS, {}).get("val_loss"),
        "seconds": attributes.get(SECONDS),
        "attempts": len(slot.attempts),
        "failure": slot.failure,
    }


def describe_trial(slot: Slot, plan: SweepPlan) -> str:
    """One line about a trial that has ended."""
    row = _row(slot, plan)
    outcome = row["failure"] or f"{plan.metric} {slot.value:.4f}"
    values = "  ".join(f"{field} {_short(row[field])}" for field in plan.space.fields)
    return f"Trial {slot.number:>3}  {slot.state:<8}  {outcome}  {values}  {_time(row)}".rstrip()


def compare(slots: Sequence[Slot], plan: SweepPlan, *, seconds: float) -> str:
    """The baseline beside the best trial, as a table.

    Args:
        slots: of the study; the first one is the baseline.
        plan: of the sweep.
        seconds: how long this process worked on it.
    """
    best = best_slot(slots, plan.metric)
    head = ["", "trial", plan.metric, *plan.space.fields, "time"]
    rows = [head, _cells("baseline", slots[0], plan)]
    if best is not None:
        rows.append(_cells("best", best, plan))
        difference = "" if slots[0].state != "COMPLETE" else f"{best.value - slots[0].value:+.4f}"
        rows.append(
            ["difference", "", difference, *("" for _ in plan.space.fields), f"{seconds:.1f} s for this command"]
        )
    return "\n".join(align(rows))


def _cells(name: str, slot: Slot, plan: SweepPlan) -> list[str]:
    row = _row(slot, plan)
    value = slot.state if slot.state != "COMPLETE" else f"{slot.value:.4f}"
    return [name, str(slot.number), value, *(_short(row[field]) for field in plan.space.fields), _time(row)]


def _time(row: Mapping[str, Any]) -> str:
    """How long a trial took, which nobody knows of one whose process died."""
    return "" if row["seconds"] is None else f"{row['seconds']:.1f} s"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
