"""What the terminal shows while trials run."""

import time
from contextlib import suppress

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.search.plan import SweepPlan
from vjepa_mlflow.search.queue import TrialQueue
from vjepa_mlflow.search.study import best_trial
from vjepa_mlflow.search.tables import describe_trial
from vjepa_mlflow.terminal.bars import Bar

logger = get_logger(__name__)

PAUSE = 2.0
"""Seconds from one reading of the study to the next, at least."""


class TrialProgress:
    """A bar of the trials with the best one so far, and a line for each that ends, whichever process ran it."""

    def __init__(self, queue: TrialQueue, plan: SweepPlan):
        self._queue, self._plan = queue, plan
        self._shown = {trial.number for trial in queue.trials() if trial.ended}
        if self._shown:
            logger.info(f"The study goes on: {len(self._shown)} of {queue.count} trials have ended")
        self._bar = Bar.shown(total=queue.count, initial=len(self._shown), desc="Trials", unit="trial")
        self._read_at = 0.0

    def look(self) -> None:
        """Shows what has changed."""
        if time.monotonic() - self._read_at < PAUSE:
            return
        trials = self._queue.trials()
        for trial in trials:
            if trial.ended and trial.number not in self._shown:
                logger.info(describe_trial(trial, self._plan))
                self._shown.add(trial.number)
                self._bar.update()
        best = best_trial(trials, self._plan.metric)
        if best is not None:
            self._bar.set_postfix_str(f"best {self._plan.metric} {best.value:.4f} (trial {best.number})")
        self._read_at = time.monotonic()

    def close(self) -> None:
        """Shows the last changes, and ends the bar."""
        self._read_at = 0.0
        with suppress(UserError):  # of a storage that is away, which the trials' error says
            self.look()
        self._bar.close()
