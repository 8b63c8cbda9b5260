"""The trials of a study, given to one process each, and to another one where they were interrupted."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import NopPruner
from optuna.trial import TrialState

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.internals.optuna_private import FINISHED_ERRORS, open_trial
from vjepa_mlflow.search.heartbeat import Heartbeat, StaleTrials
from vjepa_mlflow.search.lock import one_at_a_time
from vjepa_mlflow.search.method import SearchMethod
from vjepa_mlflow.search.running import RunningTrial, TakenOverError
from vjepa_mlflow.search.storage import StudyStorage
from vjepa_mlflow.search.trials import (
    CAUSE,
    FAILURE,
    GIVEN_BACK,
    INTERRUPTED,
    KEPT_EPOCHS,
    OUTLIVED,
    RETRY_OF,
    SweepTrial,
    read_trials,
)


class TrialQueue:
    """The trials of a study that several processes share, here and on other machines.

    Args:
        storage: where the study is.
        name: of the study in it.
        count: how many trials are to end.
        method: what the trials try, and what stops them early.
        on_interrupted: is given the number of each trial that was interrupted, before it is retried.

    Attributes:
        study: what Optuna's own functions take.
        count: how many trials are to end.
    """

    def __init__(
        self,
        storage: StudyStorage,
        name: str,
        *,
        count: int,
        method: SearchMethod,
        on_interrupted: Callable[[int], None] = lambda _: None,
    ):
        self.study = optuna.load_study(study_name=name, storage=storage, pruner=method.pruner)
        self.count = count
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(name)
        self._method = method
        self._on_interrupted = on_interrupted
        self._stale = StaleTrials(storage, self._study_id)

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
        """Adds the trials that are wanted and not there yet, as far as it gets; `take_next` adds the others.

        Args:
            stopping: whether to leave it at those that are there now.
        """

        def add() -> None:
            with self._adding():
                self._add_new(len(self.trials()), stopping)

        self._storage.check()
        self._storage.repeat(add)

    def take_next(self) -> RunningTrial | None:
        """Takes the first trial that waits for someone; None where all have ended or run elsewhere."""
        for trial in self._recover():
            if trial.state == "WAITING" and self._take(trial):
                sampler = self._method.sampler(trial.number)
                return RunningTrial(trial.number, open_trial(self.study, self._id(trial.frozen.number), sampler))
        return None

    def is_done(self) -> bool:
        """Whether all trials have ended."""
        trials = self.trials()
        return len(trials) >= self.count and all(trial.ended for trial in trials)

    @contextmanager
    def working_on(self, running: RunningTrial, stopping: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Records heartbeats during the block. A trial that has not ended then is interrupted: it is given back.

        Args:
            running: what is worked on.
            stopping: whether this process was asked to stop, which is noted at once: it may be killed before it could.
        """
        trial_id = self._id(running.trial.number)
        try:
            with Heartbeat(self._storage, trial_id, stopping=stopping, stale=self._stale):
                yield
        except BaseException as error:
            with suppress(UserError):  # of a storage that is away; the first error is the one to tell
                if isinstance(error, TakenOverError):
                    with self._writing():
                        self.study.set_user_attr(f"{OUTLIVED}{running.trial.number}", True)
                self._interrupt(trial_id)
            raise
        self._interrupt(trial_id)

    def note_checkpoint(self, running: RunningTrial, epochs: int) -> None:
        """Notes that a try has begun, and later how far its checkpoint has got: from now on its process's death counts.

        Raises:
            TakenOverError: the trial is no longer this process's.
        """
        self._note(running, KEPT_EPOCHS, epochs)

    def note_cause(self, running: RunningTrial, cause: str) -> None:
        """Notes by what error a try dies, where that can be noted."""
        self._note_last(running, CAUSE, cause)

    def give_back(self, running: RunningTrial) -> None:
        """Notes that a try ends by nothing that its trial has done, where that can be noted."""
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
        self._storage.stop_waiting()

    def complete(self, running: RunningTrial, value: float, attributes: Mapping[str, Any]) -> None:
        self._end(running, TrialState.COMPLETE, attributes, value)

    def prune(self, running: RunningTrial, attributes: Mapping[str, Any]) -> None:
        self._end(running, TrialState.PRUNED, attributes)

    def fail(self, running: RunningTrial, reason: str, attributes: Mapping[str, Any]) -> None:
        """Ends a trial whose values are to blame; it is not retried."""
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
        with suppress(UserError, TakenOverError):  # what ends the try is the error to tell
            self._note(running, name, content)

    def _read_trials(self, count: int) -> list[SweepTrial]:
        trials = self.study.get_trials(deepcopy=False)
        outlived = [name.removeprefix(OUTLIVED) for name in self.study.user_attrs if name.startswith(OUTLIVED)]
        return read_trials(trials, count, {int(number) for number in outlived})

    def _recover(self) -> list[SweepTrial]:
        """Has as many trials as are wanted, and a retry of each that was interrupted; returns all."""
        self._storage.check()
        self._storage.repeat(self._stale.interrupt)
        trials = self.trials()
        if len(trials) >= self.count and all(trial.state != INTERRUPTED for trial in trials):
            return trials
        self._storage.repeat(self._add_missing)
        return self.trials()

    def _add_missing(self) -> None:
        with self._adding():
            trials = self.trials()
            for trial in trials:
                if trial.state == INTERRUPTED:
                    self._on_interrupted(trial.number)
                    params = {**(self._method.first if trial is trials[0] else {}), **trial.frozen.params}
                    self.study.enqueue_trial(params, user_attrs={RETRY_OF: trial.number})
            self._add_new(len(trials))

    def _adding(self) -> AbstractContextManager[None]:
        """Two that add the same trials would do no harm, but some would be left over."""
        return one_at_a_time(self._storage.engine, self.study.study_name)

    def _add_new(self, present: int, stopping: Callable[[], bool] = lambda: False) -> None:
        for index in range(present, self.count):
            if stopping():
                return
            self.study.enqueue_trial(dict(self._method.first) if index == 0 else {})

    def _take(self, trial: SweepTrial) -> bool:
        trial_id = self._id(trial.frozen.number)
        with suppress(UpdateFinishedTrialError):  # others may be faster
            self._storage.repeat(lambda: self._storage.record_heartbeat(trial_id))
            return self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        return False

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
        self._storage.check()
        try:
            yield
        except KeyError as error:  # it went just now
            raise self._storage.gone() from error
        except FINISHED_ERRORS as error:
            raise TakenOverError from error

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
