"""Trials counted from tries, as several processes may have left them."""

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from vjepa_mlflow.search.trials import CAUSE, FAILURE, GIVEN_BACK, KEPT_EPOCHS, RETRY_OF, SweepTrial, read_trials


def frozen_trials_of(*states: str) -> list[FrozenTrial]:
    """Tries in the order of their numbers: a state, `lost` for an interrupted one, and `@n` for another try of n."""
    study = optuna.create_study()
    for text in states:
        name, _, first = text.partition("@")
        state = TrialState.FAIL if name == "lost" else TrialState[name]
        attributes = {RETRY_OF: int(first)} if first else {}
        if name == "FAIL":
            attributes[FAILURE] = "it diverged"
        value = 0.5 if state == TrialState.COMPLETE else None
        study.add_trial(optuna.create_trial(state=state, value=value, user_attrs=attributes))
    return study.get_trials()


@pytest.mark.parametrize(
    ("frozen_trials", "expected"),
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
def test_three_trials(frozen_trials: list[str], expected: list[str]) -> None:
    assert [f"{trial.number} {trial.state}" for trial in read_trials(frozen_trials_of(*frozen_trials), 3)] == expected


def trial_of(*ends: str, outlived: tuple[int, ...] = ()) -> SweepTrial:
    """A trial with tries that ended: `dead3` with a checkpoint of three epochs, `back3` given back, or a state."""
    study = optuna.create_study()
    for number, end in enumerate(ends):
        attributes: dict[str, object] = {RETRY_OF: 0} if number else {}
        state = TrialState.FAIL
        if end[:4] in ("dead", "back"):
            attributes |= {KEPT_EPOCHS: int(end[4:] or 0)} | ({GIVEN_BACK: True} if end.startswith("back") else {})
        elif end != "older":
            state = TrialState[end]
        value = 0.5 if state == TrialState.COMPLETE else None
        study.add_trial(optuna.create_trial(state=state, value=value, user_attrs=attributes))
    (trial,) = read_trials(study.get_trials(), 1, outlived)
    return trial


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        ("dead dead", "INTERRUPTED"),
        ("dead dead WAITING", "WAITING"),
        ("dead dead dead", "FAIL"),
        ("dead dead dead WAITING", "FAIL"),  # which two processes have added
        ("dead dead dead RUNNING", "RUNNING"),
        ("dead dead COMPLETE", "COMPLETE"),
        ("dead back dead back dead", "FAIL"),
        ("back back back back", "INTERRUPTED"),
        ("older older older dead dead", "INTERRUPTED"),  # of a version that noted nothing
        ("dead dead dead2 dead2", "INTERRUPTED"),  # it has got further
        ("dead dead dead2 dead2 dead2", "FAIL"),
        ("dead dead back2 dead2 dead2", "INTERRUPTED"),
        ("dead2 dead dead", "FAIL"),  # elsewhere, without the checkpoint
        ("dead2 dead dead2", "FAIL"),
    ],
)
def test_a_trial_fails_by_its_processes_deaths(ends: str, state: str) -> None:
    trial = trial_of(*ends.split())
    assert trial.state == state
    assert ("died 3 times" in trial.failure) == (state == "FAIL")


def test_a_try_whose_process_lived_is_no_death() -> None:
    assert trial_of("dead", "dead", "dead", outlived=(1,)).state == "INTERRUPTED"


def test_what_is_told_of_deaths() -> None:
    dead = trial_of("dead", "dead", "dead")
    assert dead.failure == (
        "its process died 3 times, the last before its first epoch had ended: expected values that this machine's "
        "memory allows"
    )
    last = dead.frozen
    last.intermediate_values = {1: 0.5, 2: 0.5}
    last.set_user_attr(CAUSE, "OutOfMemoryError: much")
    assert "the last after epoch 2 (OutOfMemoryError: much): expected" in dead.failure
