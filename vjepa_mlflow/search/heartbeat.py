"""Heartbeats of running trials: recorded by the process that runs one, and watched by all for those that stop."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from optuna.exceptions import UpdateFinishedTrialError

from vjepa_mlflow.search.storage import StudyStorage
from vjepa_mlflow.search.trials import GIVEN_BACK
from vjepa_mlflow.search.watch import Watch

HEARTBEAT_INTERVAL = 3
"""Seconds from one heartbeat of a running trial to the next."""

GRACE_PERIOD = 15
"""Seconds without a heartbeat after which a trial is taken for interrupted."""

PAUSE = 0.5
"""Seconds from one look of the thread that records heartbeats to the next."""


class StaleTrials:
    """The trials of a study whose processes record heartbeats no more, as this process sees it.

    Args:
        storage: where the study is.
        study_id: its.
    """

    def __init__(self, storage: StudyStorage, study_id: int):
        self._storage, self._study_id = storage, study_id
        self._watch = Watch(GRACE_PERIOD)

    def interrupt(self) -> None:
        """Interrupts those that have become stale since the last look."""
        for trial_id in self._watch.find_stale(self._storage.last_heartbeats(self._study_id)):
            with suppress(UpdateFinishedTrialError):  # it has just ended, or others have seen it as well
                self._storage.interrupt_once(trial_id)


class Heartbeat:
    """Records heartbeats of a running trial, from a thread of its block.

    Args:
        storage: where the trial's study is.
        trial_id: the trial's.
        stopping: whether this process was asked to stop, which is noted at once: it may be killed before the trial is
            given back.
        stale: the study's stale trials, so that those who are at work notice them as well.
    """

    def __init__(self, storage: StudyStorage, trial_id: int, *, stopping: Callable[[], bool], stale: StaleTrials):
        self._storage, self._trial_id, self._stopping, self._stale = storage, trial_id, stopping, stale
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _record(self) -> None:
        recorded, has_noted = time.monotonic(), False
        while not self._done.wait(PAUSE):
            with suppress(Exception):  # whatever is wrong, the thread that runs the trial meets it too
                if self._stopping() and not has_noted:
                    self._storage.note_once(self._trial_id, GIVEN_BACK, True)
                    has_noted = True
                if time.monotonic() - recorded >= HEARTBEAT_INTERVAL:
                    self._storage.record_heartbeat(self._trial_id)
                    recorded = time.monotonic()
                    self._stale.interrupt()
