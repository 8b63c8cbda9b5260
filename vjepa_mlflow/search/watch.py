"""Noticing stale heartbeats, by no clock but one's own."""

import time
from collections.abc import Callable, Mapping


class Watch:
    """Which of several trials have heartbeats that have stopped.

    A stored heartbeat is never compared with a time, since clocks are set back and forward: what counts is whether it
    changes while this process looks. A look after a long time without one, as when the database or this process was
    away, adds little: then the others may not have been able to record any.

    Args:
        grace: seconds without a change after which a trial is stale.
        clock: in seconds, and never set.
    """

    def __init__(self, grace: float, clock: Callable[[], float] = time.monotonic):
        self._grace = grace
        self._clock = clock
        self._looked_at = clock()
        self._silences: dict[int, tuple[object, float]] = {}

    def find_stale(self, heartbeats: Mapping[int, object]) -> list[int]:
        """Returns the trials whose heartbeats have not changed for the grace period.

        Args:
            heartbeats: the last one of each running trial, as stored, by the trial's id; None where there is none.
        """
        now = self._clock()
        passed = min(now - self._looked_at, self._grace / 3)
        self._looked_at = now
        before, self._silences = self._silences, {}
        for trial_id, heartbeat in heartbeats.items():
            last_heartbeat, unchanged_for = before.get(trial_id, (heartbeat, -passed))
            self._silences[trial_id] = (heartbeat, unchanged_for + passed if heartbeat == last_heartbeat else 0.0)
        return [trial_id for trial_id, (_, unchanged_for) in self._silences.items() if unchanged_for >= self._grace]
