"""Trials handed out to whoever asks, each once, and again where it was interrupted."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from vjepa_mlflow.sweep.lock import one_at_a_time
from vjepa_mlflow.sweep.slots import FAILURE, INTERRUPTED, SLOT, Slot, read_slots

HEARTBEAT_INTERVAL = 3
"""Seconds from one sign of life of a running trial to the next."""

GRACE_PERIOD = 15
"""Seconds without a sign of life after which a trial is taken for interrupted."""


class TakenOverError(Exception):
    """Another process took this one for dead and took over its trial."""


@dataclass(frozen=True)
class Claim:
    """A trial that is this process's to do.

    Attributes:
        slot: the trial's number, the same for every attempt.
        trial: Optuna's handle of this attempt.
    """

    slot: int
    trial: Trial


class TrialQueue:
    """The trials of a study that several processes share, here and on other machines.

    Args:
        storage: which records heartbeats.
        name: of the study in it.
        count: how many trials are to end.
        first: what the first trial tries; the others are left to the sampler.
        sampler: makes the sampler of a trial from its number.
        pruner: stops trials early.
        on_interrupted: is given the number of each trial that was interrupted, before it is attempted again.

    Attributes:
        study: what Optuna's own functions take.
        count: how many trials are to end.
    """

    def __init__(
        self,
        storage: RDBStorage,
        name: str,
        *,
        count: int,
        first: Mapping[str, Any],
        sampler: Callable[[int], BaseSampler],
        pruner: BasePruner,
        on_interrupted: Callable[[int], None],
    ):
        self.study = optuna.load_study(study_name=name, storage=storage)
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(name)
        self.count = count
        self._first = dict(first)
        self._sampler = sampler
        self._pruner = pruner
        self._on_interrupted = on_interrupted

    def slots(self) -> list[Slot]:
        """The trials as they stand."""
        return read_slots(self.study.get_trials(deepcopy=False), self.count)

    def claim(self) -> Claim | None:
        """Takes the first trial that waits for someone; None where all have ended or are in other hands."""
        self._recover()
        for slot in self.slots():
            if slot.state == "WAITING" and self._take(slot):
                return Claim(slot.number, self._open(slot))
        return None

    def is_done(self) -> bool:
        """Whether all trials have ended."""
        slots = self.slots()
        return len(slots) >= self.count and all(slot.ended for slot in slots)

    @contextmanager
    def working_on(self, claim: Claim) -> Iterator[None]:
        """Gives signs of life during the block. A trial that has not ended then is interrupted: it is given back."""
        done = threading.Event()
        beat = threading.Thread(target=self._give_signs_of_life, args=(claim.trial.number, done), daemon=True)
        beat.start()
        try:
            yield
        finally:
            done.set()
            beat.join()
            with suppress(UpdateFinishedTrialError):
                self._storage.set_trial_state_values(self._id(claim.trial.number), TrialState.FAIL)

    def report(self, claim: Claim, epoch: int, value: float) -> bool:
        """Notes the metric after an epoch, counted from 1. Returns whether the trial should be pruned.

        Raises:
            TakenOverError: the trial is no longer this process's.
        """
        with _still_ours():
            claim.trial.report(value, epoch)
        return claim.trial.should_prune()

    def complete(self, claim: Claim, value: float, attributes: Mapping[str, Any]) -> None:
        self._end(claim, TrialState.COMPLETE, attributes, value)

    def prune(self, claim: Claim, attributes: Mapping[str, Any]) -> None:
        self._end(claim, TrialState.PRUNED, attributes)

    def fail(self, claim: Claim, reason: str, attributes: Mapping[str, Any]) -> None:
        """Ends a trial whose values are to blame; it is not attempted again."""
        self._end(claim, TrialState.FAIL, {**attributes, FAILURE: reason})

    def _end(self, claim: Claim, state: TrialState, attributes: Mapping[str, Any], value: float | None = None) -> None:
        with _still_ours():
            for name, content in attributes.items():
                claim.trial.set_user_attr(name, content)
            claim.trial.study.tell(claim.trial, value, state)

    def _recover(self) -> None:
        """Has as many trials as are wanted, and another attempt at each that was interrupted."""
        fail_stale_trials(self.study)
        if self._lacks_attempts():
            # Two that add the same attempts would do no harm, but some would be left over.
            with one_at_a_time(self._storage.engine, self.study.study_name):
                self._add_attempts()

    def _lacks_attempts(self) -> bool:
        slots = self.slots()
        return len(slots) < self.count or any(slot.state == INTERRUPTED for slot in slots)

    def _add_attempts(self) -> None:
        slots = self.slots()
        for slot in slots:
            if slot.state == INTERRUPTED:
                self._on_interrupted(slot.number)
                known = {**(self._first if slot is slots[0] else {}), **slot.trial.params}
                self.study.enqueue_trial(known, user_attrs={SLOT: slot.number})
        for index in range(len(slots), self.count):
            self.study.enqueue_trial(self._first if index == 0 else {})

    def _take(self, slot: Slot) -> bool:
        trial_id = self._id(slot.trial.number)
        with suppress(UpdateFinishedTrialError):  # others may be faster
            self._storage.record_heartbeat(trial_id)  # a running trial without one would never be taken for dead
            return self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        return False

    def _open(self, slot: Slot) -> Trial:
        # `Study.ask` would make another trial where others have taken the last one meanwhile.
        sampler = self._sampler(slot.number)
        study = optuna.load_study(
            study_name=self.study.study_name, storage=self._storage, sampler=sampler, pruner=self._pruner
        )
        study.get_trials(deepcopy=False)  # Optuna's cache takes writes for those trials alone that it has read
        return Trial(study, self._id(slot.trial.number))

    def _give_signs_of_life(self, number: int, done: threading.Event) -> None:
        trial_id = self._id(number)
        while not done.wait(HEARTBEAT_INTERVAL):
            with suppress(StorageInternalError, SQLAlchemyError):  # it may be away for a moment
                self._storage.record_heartbeat(trial_id)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


@contextmanager
def _still_ours() -> Iterator[None]:
    try:
        yield
    except (UpdateFinishedTrialError, ValueError) as error:  # the second one is `Study.tell`'s
        raise TakenOverError from error
