"""Trials counted from attempts, as several processes may have left them."""

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from vjepa_mlflow.sweep.slots import FAILURE, SLOT, read_slots


def trials(*attempts: str) -> list[FrozenTrial]:
    """Attempts in the order of their numbers: a state, `lost` for an interrupted one, and `@n` for another try of n."""
    study = optuna.create_study()
    for attempt in attempts:
        name, _, first = attempt.partition("@")
        state = TrialState.FAIL if name == "lost" else TrialState[name]
        attributes = {SLOT: int(first)} if first else {}
        if name == "FAIL":
            attributes[FAILURE] = "it diverged"
        value = 0.5 if state == TrialState.COMPLETE else None
        study.add_trial(optuna.create_trial(state=state, value=value, user_attrs=attributes))
    return study.get_trials()


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([], []),
        (["COMPLETE", "PRUNED", "RUNNING"], ["0 COMPLETE", "1 PRUNED", "2 RUNNING"]),
        (["FAIL", "WAITING"], ["0 FAIL", "1 WAITING"]),  # it failed by itself, and is not tried again
        (["lost", "WAITING"], ["0 INTERRUPTED", "1 WAITING"]),
        (["lost", "COMPLETE", "RUNNING@0"], ["0 RUNNING", "1 COMPLETE"]),
        (["lost", "COMPLETE", "lost@0", "COMPLETE@0"], ["0 COMPLETE", "1 COMPLETE"]),
        # Two processes added another try of the same trial: the first one counts, and the second one never runs ...
        (["lost", "RUNNING@0", "WAITING@0"], ["0 RUNNING"]),
        (["lost", "COMPLETE@0", "WAITING@0"], ["0 COMPLETE"]),
        (["lost", "lost@0", "WAITING@0"], ["0 WAITING"]),  # ... unless that one was interrupted as well.
        # Two processes added the missing trials: what is too much never runs.
        (["COMPLETE", "COMPLETE", "RUNNING", "WAITING", "WAITING"], ["0 COMPLETE", "1 COMPLETE", "2 RUNNING"]),
        # More trials were asked for once, and have ended.
        (["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"], ["0 COMPLETE", "1 COMPLETE", "2 PRUNED", "3 COMPLETE"]),
    ],
)
def test_three_trials(attempts: list[str], expected: list[str]) -> None:
    assert [f"{slot.number} {slot.state}" for slot in read_slots(trials(*attempts), 3)] == expected
