"""Counting the trials of a study, in the same way by everyone who shares it.

A trial whose process died or was stopped is retried, and each retry is a trial of Optuna's with a number of its own.
Nobody has to hold a lock for that: whichever retries processes have added at the same time, all of them read the same
trials out of the study.

A trial that kills its process, as one does that needs too much memory, would so be retried for ever. Each try therefore
notes how far it got, and that it was given back, where it ended otherwise; that a trial has failed by its deaths
follows from these notes, and is written nowhere.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

RETRY_OF = "slot"
"""The attribute of a retry: the number of the trial's first try."""

FAILURE = "failure"
"""The attribute of a trial that failed by itself, by its values: why. One without it was interrupted."""

KEPT_EPOCHS = "kept_epochs"
"""The attribute of a try that has begun: how many epochs its last checkpoint has. Those of older versions have
none, and their deaths count for nothing."""

GIVEN_BACK = "given_back"
"""The attribute of a try that ended since its process was asked to stop, or had no disk or server any more."""

CAUSE = "cause"
"""The attribute of a try that ended by an error: which."""

OUTLIVED = "outlived "
"""Begins the attribute of a study that names a try that was taken for dead while its process lived."""

MOST_DEATHS = 3
"""In a row, without getting further, after which a trial has failed: the first try and two retries."""

INTERRUPTED = "INTERRUPTED"
ENDED = ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True)
class SweepTrial:
    """One of the trials that were asked for.

    Attributes:
        number: of its first try.
        frozen_trials: that try and its retries, in their order, as Optuna has them.
        outlived: numbers of tries that were taken for dead, and whose processes then turned out to live.
    """

    number: int
    frozen_trials: tuple[FrozenTrial, ...]
    outlived: Collection[int] = ()

    @property
    def frozen(self) -> FrozenTrial:
        """The try that counts: the first one that was not interrupted, or the last where all were."""
        started = [frozen for frozen in self.frozen_trials if frozen.state != TrialState.WAITING]
        considered = started if self._deaths >= MOST_DEATHS else self.frozen_trials
        uninterrupted = [frozen for frozen in considered if not _was_interrupted(frozen)]
        return uninterrupted[0] if uninterrupted else considered[-1]

    @property
    def state(self) -> str:
        """WAITING, RUNNING, COMPLETE, PRUNED or FAIL as in Optuna, or INTERRUPTED: to be retried."""
        if _was_interrupted(self.frozen) and self._deaths < MOST_DEATHS:
            return INTERRUPTED
        return self.frozen.state.name

    @property
    def value(self) -> float:
        """The metric of a completed trial, or of a pruned one's last epoch."""
        assert self.frozen.value is not None
        return self.frozen.value

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def failure(self) -> str:
        """Why it failed; empty where it did not."""
        if self.state != "FAIL":
            return ""
        attributes = self.frozen.user_attrs
        if FAILURE in attributes:
            return str(attributes[FAILURE])
        epochs = self.frozen.last_step
        last = f"the last after epoch {epochs}" if epochs else "the last before its first epoch had ended"
        cause = f" ({attributes[CAUSE]})" if CAUSE in attributes else ""
        return (
            f"its process died {self._deaths} times, {last}{cause}: expected values that this machine's memory allows"
        )

    @property
    def _deaths(self) -> int:
        """Tries that have died in a row since one got further than all before, with that one."""
        deaths = furthest = 0
        for frozen in self.frozen_trials:
            epochs = frozen.user_attrs.get(KEPT_EPOCHS, 0)
            if epochs > furthest:
                deaths, furthest = 0, epochs
            deaths += _died(frozen) and frozen.number not in self.outlived
        return deaths


def read_trials(frozen_trials: Sequence[FrozenTrial], count: int, outlived: Collection[int] = ()) -> list[SweepTrial]:
    """The first `count` trials of a study, and others that have ended, for a study that went further once.

    Args:
        frozen_trials: Optuna's, retries among them.
        count: how many are to end.
        outlived: numbers of tries that were taken for dead, and whose processes then turned out to live.
    """
    all_tries: dict[int, list[FrozenTrial]] = {}
    for frozen in sorted(frozen_trials, key=lambda frozen: frozen.number):
        all_tries.setdefault(frozen.user_attrs.get(RETRY_OF, frozen.number), []).append(frozen)
    trials = [SweepTrial(number, tuple(tries), outlived) for number, tries in sorted(all_tries.items())]
    return trials[:count] + [trial for trial in trials[count:] if trial.ended]


def _was_interrupted(frozen: FrozenTrial) -> bool:
    return frozen.state == TrialState.FAIL and FAILURE not in frozen.user_attrs


def _died(frozen: FrozenTrial) -> bool:
    return _was_interrupted(frozen) and KEPT_EPOCHS in frozen.user_attrs and GIVEN_BACK not in frozen.user_attrs
