"""Noticing that a process is dead, by no clock but one's own."""

import time
from collections.abc import Callable, Mapping


class Watch:
    """Which of several processes give signs of life no more.

    A stored sign of life is never compared with a time, since clocks are set back and forward: what counts is whether
    it changes while this process looks. A look after a long time without one, as when the database or this process was
    away, adds little: then the others may not have been able to give any.

    Args:
        grace: seconds without a change after which a process is taken for dead.
        clock: in seconds, and never set.
    """

    def __init__(self, grace: float, clock: Callable[[], float] = time.monotonic):
        self._grace = grace
        self._clock = clock
        self._looked = clock()
        self._seen: dict[int, tuple[object, float]] = {}

    def look(self, signs: Mapping[int, object]) -> list[int]:
        """Returns whose signs have not changed for the grace period.

        Args:
            signs: the last one of each process, as stored; None where there is none.
        """
        now = self._clock()
        passed = min(now - self._looked, self._grace / 3)
        self._looked = now
        known, self._seen = self._seen, {}
        for one, sign in signs.items():
            before, silence = known.get(one, (sign, -passed))
            self._seen[one] = (sign, silence + passed if sign == before else 0.0)
        return [one for one, (_, silence) in self._seen.items() if silence >= self._grace]
