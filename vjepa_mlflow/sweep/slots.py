"""Counting the trials of a study, in the same way by everyone who shares it.

Optuna numbers attempts; what was asked for are trials that end. A trial whose process died or was stopped is attempted
again, so the attempts at one trial make up a slot. Nobody has to hold a lock for that: whichever attempts processes
have added at the same time, all of them read the same slots out of the study.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

SLOT = "slot"
"""The attribute of a second or later attempt: the number of the first one."""

FAILURE = "failure"
"""The attribute of a trial that failed by itself, by its values: why. One without it was interrupted."""

INTERRUPTED = "INTERRUPTED"
ENDED = ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True)
class Slot:
    """One of the trials that were asked for.

    Attributes:
        number: of its first attempt.
        attempts: in their order.
    """

    number: int
    attempts: tuple[FrozenTrial, ...]

    @property
    def trial(self) -> FrozenTrial:
        """The attempt that counts: the first one that was not interrupted, or the last where all were."""
        going = [attempt for attempt in self.attempts if not _was_interrupted(attempt)]
        return going[0] if going else self.attempts[-1]

    @property
    def state(self) -> str:
        """WAITING, RUNNING, COMPLETE, PRUNED or FAIL as in Optuna, or INTERRUPTED: to be attempted again."""
        return INTERRUPTED if _was_interrupted(self.trial) else self.trial.state.name

    @property
    def value(self) -> float:
        """The metric of a completed trial, or of a pruned one's last epoch."""
        assert self.trial.value is not None
        return self.trial.value

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def read_slots(trials: Sequence[FrozenTrial], count: int) -> list[Slot]:
    """The first `count` slots of a study, and others that have ended, for a study that went further once."""
    attempts: dict[int, list[FrozenTrial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        attempts.setdefault(trial.user_attrs.get(SLOT, trial.number), []).append(trial)
    slots = [Slot(number, tuple(kept)) for number, kept in sorted(attempts.items())]
    return slots[:count] + [slot for slot in slots[count:] if slot.ended]


def _was_interrupted(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and FAILURE not in trial.user_attrs
