"""Counting the trials of a study, in the same way by everyone who shares it.

Optuna numbers attempts; what was asked for are trials that end. A trial whose process died or was stopped is attempted
again, so the attempts at one trial make up a slot. Nobody has to hold a lock for that: whichever attempts processes
have added at the same time, all of them read the same slots out of the study.

A trial that kills its process, as one does that needs too much memory, would so be attempted for ever. Each attempt
therefore notes how far it got, and that it was given back, where it ended otherwise; that a trial has failed by its
deaths follows from these notes, and is written nowhere.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

SLOT = "slot"
"""The attribute of a second or later attempt: the number of the first one."""

FAILURE = "failure"
"""The attribute of a trial that failed by itself, by its values: why. One without it was interrupted."""

KEPT = "kept_epochs"
"""The attribute of an attempt that has begun: how many epochs its last checkpoint has. Those of older versions have
none, and tell nothing by their ends."""

GIVEN_BACK = "given_back"
"""The attribute of an attempt that ended since its process was asked to stop, or had no disk or server any more."""

CAUSE = "cause"
"""The attribute of an attempt that ended by an error: which."""

MOST_DEATHS = 3
"""In a row, without getting further, after which a trial has failed: the first one and two more attempts."""

INTERRUPTED = "INTERRUPTED"
ENDED = ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True)
class Slot:
    """One of the trials that were asked for.

    Attributes:
        number: of its first attempt.
        attempts: in their order.
        outlived: numbers of attempts that were taken for dead, and whose processes then turned out to live.
    """

    number: int
    attempts: tuple[FrozenTrial, ...]
    outlived: Collection[int] = ()

    @property
    def trial(self) -> FrozenTrial:
        """The attempt that counts: the first one that was not interrupted, or the last where all were."""
        begun = [attempt for attempt in self.attempts if attempt.state != TrialState.WAITING]
        considered = begun if self._deaths >= MOST_DEATHS else self.attempts
        going = [attempt for attempt in considered if not _was_interrupted(attempt)]
        return going[0] if going else considered[-1]

    @property
    def state(self) -> str:
        """WAITING, RUNNING, COMPLETE, PRUNED or FAIL as in Optuna, or INTERRUPTED: to be attempted again."""
        if _was_interrupted(self.trial) and self._deaths < MOST_DEATHS:
            return INTERRUPTED
        return self.trial.state.name

    @property
    def value(self) -> float:
        """The metric of a completed trial, or of a pruned one's last epoch."""
        assert self.trial.value is not None
        return self.trial.value

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def failure(self) -> str:
        """Why it failed; empty where it did not."""
        if self.state != "FAIL":
            return ""
        attributes = self.trial.user_attrs
        if FAILURE in attributes:
            return str(attributes[FAILURE])
        epochs = self.trial.last_step
        last = f"the last after epoch {epochs}" if epochs else "the last before its first epoch had ended"
        cause = f" ({attributes[CAUSE]})" if CAUSE in attributes else ""
        return (
            f"its process died {self._deaths} times, {last}{cause}: expected values that this machine's memory allows"
        )

    @property
    def _deaths(self) -> int:
        """Attempts that have died in a row since one got further than all before, with that one."""
        deaths = furthest = 0
        for attempt in self.attempts:
            kept = attempt.user_attrs.get(KEPT, 0)
            if kept > furthest:
                deaths, furthest = 0, kept
            deaths += _died(attempt) and attempt.number not in self.outlived
        return deaths


def read_slots(trials: Sequence[FrozenTrial], count: int, outlived: Collection[int] = ()) -> list[Slot]:
    """The first `count` slots of a study, and others that have ended, for a study that went further once.

    Args:
        trials: Optuna's, which are attempts.
        count: how many are to end.
        outlived: numbers of attempts that were taken for dead, and whose processes then turned out to live.
    """
    attempts: dict[int, list[FrozenTrial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        attempts.setdefault(trial.user_attrs.get(SLOT, trial.number), []).append(trial)
    slots = [Slot(number, tuple(kept), outlived) for number, kept in sorted(attempts.items())]
    return slots[:count] + [slot for slot in slots[count:] if slot.ended]


def _was_interrupted(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and FAILURE not in trial.user_attrs


def _died(trial: FrozenTrial) -> bool:
    return _was_interrupted(trial) and KEPT in trial.user_attrs and GIVEN_BACK not in trial.user_attrs
