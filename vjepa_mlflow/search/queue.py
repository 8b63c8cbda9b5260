"""Trials handed out to whoever asks, each once, and again where it was interrupted."""

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.search.lock import one_at_a_time
from vjepa_mlflow.search.storage import PatientStorage
from vjepa_mlflow.search.trials import CAUSE, FAILURE, GIVEN_BACK, INTERRUPTED, KEPT, RETRY_OF, SweepTrial, read_trials
from vjepa_mlflow.search.watch import Watch

HEARTBEAT_INTERVAL = 3
"""Seconds from one sign of life of a running trial to the next."""

GRACE_PERIOD = 15
"""Seconds without a sign of life after which a trial is taken for interrupted."""

PAUSE = 0.5
"""Seconds from one look of the thread that gives signs of life to the next."""

OUTLIVED = "outlived "
"""Begins the attribute of a study that names an attempt which was taken for dead while its process lived."""


class TakenOverError(Exception):
    """Another process took this one for dead and took over its trial."""


@dataclass(frozen=True)
class RunningTrial:
    """A trial that is this process's to do.

    Attributes:
        number: the trial's, the same for every retry.
        trial: Optuna's handle of this try.
    """

    number: int
    trial: Trial


class TrialQueue:
    """The trials of a study that several processes share, here and on other machines.

    Args:
        storage: where the study is.
        name: of the study in it.
        count: how many trials are to end.
        first: what the first trial tries; the others are left to the sampler.
        sampler: makes the sampler of a trial from its number.
        pruner: stops trials early.
        on_interrupted: is given the number of each trial that was interrupted, before it is attempted again.
        check: raises where the study is not the one that it was.

    Attributes:
        study: what Optuna's own functions take.
        count: how many trials are to end.
    """

    def __init__(
        self,
        storage: PatientStorage,
        name: str,
        *,
        count: int,
        first: Mapping[str, Any],
        sampler: Callable[[int], BaseSampler],
        pruner: BasePruner,
        on_interrupted: Callable[[int], None],
        check: Callable[[], None],
    ):
        self.study = optuna.load_study(study_name=name, storage=storage, pruner=pruner)
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(name)
        self.count = count
        self._first = dict(first)
        self._sampler = sampler
        self._on_interrupted = on_interrupted
        self._check = check
        self._watch = Watch(GRACE_PERIOD)

    @property
    def prunes(self) -> bool:
        """Whether trials may be stopped early."""
        return not isinstance(self.study.pruner, NopPruner)

    def trials(self) -> list[SweepTrial]:
        """The trials as they stand."""
        return self._read_trials(self.count)

    def all_trials(self) -> list[SweepTrial]:
        """The same with those that others may have been asked for."""
        return self._read_trials(len(self.study.get_trials(deepcopy=False)))

    def fill(self, stopping: Callable[[], bool]) -> None:
        """Adds the trials that are wanted and not there yet, as far as it gets; `running` adds the others.

        Args:
            stopping: whether to leave it at those that are there now.
        """

        def add() -> None:
            with self._adding():
                self._add_new(len(self.trials()), stopping)

        self._check()
        self._storage.repeat(add)

    def take_next(self) -> RunningTrial | None:
        """Takes the first trial that waits for someone; None where all have ended or are in other hands."""
        for trial in self._recover():
            if trial.state == "WAITING" and self._take(trial):
                return RunningTrial(trial.number, self._open(trial))
        return None

    def is_done(self) -> bool:
        """Whether all trials have ended."""
        trials = self.trials()
        return len(trials) >= self.count and all(trial.ended for trial in trials)

    @contextmanager
    def working_on(self, running: RunningTrial, stopping: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Gives signs of life during the block. A trial that has not ended then is interrupted: it is given back.

        Args:
            running: what is worked on.
            stopping: whether this process was asked to stop, which is noted at once: it may be killed before it could.
        """
        trial_id = self._id(running.trial.number)
        try:
            with self._signs_of_life(trial_id, stopping):
                yield
        except BaseException as error:
            with suppress(UserError):  # of a storage that is away; the first error is the one to tell
                if isinstance(error, TakenOverError):
                    with self._writing():
                        self.study.set_user_attr(f"{OUTLIVED}{running.trial.number}", True)
                self._interrupt(trial_id)
            raise
        self._interrupt(trial_id)

    def note_kept(self, running: RunningTrial, epochs: int) -> None:
        """Notes that an attempt has begun, and later how far its checkpoint has got: from now on it tells if it dies.

        Raises:
            TakenOverError: the trial is no longer this process's.
        """
        self._note(running, KEPT, epochs)

    def note_cause(self, running: RunningTrial, cause: str) -> None:
        """Notes by what error an attempt dies, where that can be noted."""
        self._note_last(running, CAUSE, cause)

    def give_back(self, running: RunningTrial) -> None:
        """Notes that an attempt ends by nothing that its trial has done, where that can be noted."""
        self._note_last(running, GIVEN_BACK, True)

    def report(self, running: RunningTrial, epoch: int, value: float) -> bool:
        """Notes the metric after an epoch, counted from 1. Returns whether the trial should be pruned.

        Raises:
            TakenOverError: the trial is no longer this process's.
            UserError: the study is not there any more.
        """
        with self._writing():
            running.trial.report(value, epoch)
        return running.trial.should_prune()

    def stop_waiting(self) -> None:
        """Has no thread wait for the storage any more, should it be away: the process is to stop at once."""
        self._storage.patience.give_up()

    def complete(self, running: RunningTrial, value: float, attributes: Mapping[str, Any]) -> None:
        self._end(running, TrialState.COMPLETE, attributes, value)

    def prune(self, running: RunningTrial, attributes: Mapping[str, Any]) -> None:
        self._end(running, TrialState.PRUNED, attributes)

    def fail(self, running: RunningTrial, reason: str, attributes: Mapping[str, Any]) -> None:
        """Ends a trial whose values are to blame; it is not attempted again."""
        self._end(running, TrialState.FAIL, {**attributes, FAILURE: reason})

    def _end(
        self, running: RunningTrial, state: TrialState, attributes: Mapping[str, Any], value: float | None = None
    ) -> None:
        with self._writing():
            for name, content in attributes.items():
                running.trial.set_user_attr(name, content)
            running.trial.study.tell(running.trial, value, state)

    def _note(self, running: RunningTrial, name: str, content: Any) -> None:
        with self._writing():
            self._storage.set_trial_user_attr(self._id(running.trial.number), name, content)

    def _note_last(self, running: RunningTrial, name: str, content: Any) -> None:
        with suppress(UserError, TakenOverError):  # what ends the attempt is the error to tell
            self._note(running, name, content)

    def _read_trials(self, count: int) -> list[SweepTrial]:
        trials = self.study.get_trials(deepcopy=False)
        noted = [name.removeprefix(OUTLIVED) for name in self.study.user_attrs if name.startswith(OUTLIVED)]
        return read_trials(trials, count, {int(number) for number in noted})

    def _recover(self) -> list[SweepTrial]:
        """Has as many trials as are wanted, and another attempt at each that was interrupted; returns all."""
        self._check()
        self._storage.repeat(self._end_silent)
        trials = self.trials()
        if len(trials) >= self.count and all(trial.state != INTERRUPTED for trial in trials):
            return trials
        self._storage.repeat(self._add_missing)
        return self.trials()

    def _end_silent(self) -> None:
        """Interrupts the trials of processes that give signs of life no more."""
        for trial_id in self._watch.look(self._storage.signs_of_life(self._study_id)):
            with suppress(UpdateFinishedTrialError):  # it has just ended, or others have seen it as well
                self._storage.interrupt(trial_id)

    def _add_missing(self) -> None:
        with self._adding():
            trials = self.trials()
            for trial in trials:
                if trial.state == INTERRUPTED:
                    self._on_interrupted(trial.number)
                    known = {**(self._first if trial is trials[0] else {}), **trial.frozen.params}
                    self.study.enqueue_trial(known, user_attrs={RETRY_OF: trial.number})
            self._add_new(len(trials))

    def _adding(self) -> AbstractContextManager[None]:
        """Two that add the same attempts would do no harm, but some would be left over."""
        return one_at_a_time(self._storage.engine, self.study.study_name)

    def _add_new(self, known: int, stopping: Callable[[], bool] = lambda: False) -> None:
        for index in range(known, self.count):
            if stopping():
                return
            self.study.enqueue_trial(self._first if index == 0 else {})

    def _take(self, trial: SweepTrial) -> bool:
        trial_id = self._id(trial.frozen.number)
        with suppress(UpdateFinishedTrialError):  # others may be faster
            self._storage.repeat(lambda: self._storage.record_heartbeat(trial_id))
            return self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        return False

    def _open(self, trial: SweepTrial) -> Trial:
        # `Study.ask` would make another trial where others have taken the last one meanwhile.
        study = copy.copy(self.study)  # which has read nothing yet that its sampler would take for what there is
        study.sampler = self._sampler(trial.number)
        study.get_trials(deepcopy=False)  # Optuna's cache takes writes for those trials alone that it has read
        return Trial(study, self._id(trial.frozen.number))

    @contextmanager
    def _signs_of_life(self, trial_id: int, stopping: Callable[[], bool]) -> Iterator[None]:
        done = threading.Event()
        beat = threading.Thread(target=self._give_signs_of_life, args=(trial_id, stopping, done), daemon=True)
        beat.start()
        try:
            yield
        finally:
            done.set()
            beat.join()

    def _give_signs_of_life(self, trial_id: int, stopping: Callable[[], bool], done: threading.Event) -> None:
        beaten, noted = time.monotonic(), False
        while not done.wait(PAUSE):
            with suppress(Exception):  # whatever is wrong, the thread that does the trial meets it too
                if stopping() and not noted:
                    self._storage.note_once(trial_id, GIVEN_BACK, True)
                    noted = True
                if time.monotonic() - beaten >= HEARTBEAT_INTERVAL:
                    self._storage.record_heartbeat(trial_id)
                    beaten = time.monotonic()
                    self._end_silent()  # so that those who are at work notice as well

    def _interrupt(self, trial_id: int) -> None:
        with suppress(TakenOverError), self._writing():
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """For what is written of a trial of this process's: another study may have its number by now.

        Raises:
            TakenOverError: the trial is no longer this process's.
            UserError: the study is not there any more.
        """
        self._check()
        try:
            yield
        except KeyError as error:  # it went just now
            raise self._storage.gone() from error
        except (UpdateFinishedTrialError, ValueError) as error:  # the second one is `Study.tell`'s
            raise TakenOverError from error

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
