"""How long a server that is away is waited for, and what the user is told meanwhile."""

import time
from collections.abc import Callable
from typing import TypeVar

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.logs import get_logger

logger = get_logger(__name__)

Answer = TypeVar("Answer")

SAID_AFTER = 5.0
"""Seconds of silence after which the user is told what is waited for."""

PATIENCE = 60.0
"""Seconds for which a server may keep a command waiting."""

PAUSE = 1.0
"""Seconds from one attempt to the next."""


class AwayError(Exception):
    """A server does not answer just now."""


class Patience:
    """Asks a server again while it is away.

    Once it has been waited for in vain, or the wait was interrupted, each further question is asked a single time,
    until one is answered: what a command does on its way out waits no second time.

    Args:
        whom: as the user is told of it.
        tells: whether to, since of several processes one is enough.
    """

    def __init__(self, whom: str, *, tells: bool = True):
        self._whom = whom
        self._tells = tells
        self._given_up = False

    def ask(self, ask: Callable[[], Answer]) -> Answer:
        """Returns the answer.

        Args:
            ask: may be called several times, also after an attempt has arrived whose answer was lost; it raises
                `AwayError` where nobody answers.

        Raises:
            UserError: there was no answer within `PATIENCE`.
        """
        try:
            answer = self._ask(ask)
        except (UserError, KeyboardInterrupt):
            self._given_up = True
            raise
        self._given_up = False
        return answer

    def give_up(self) -> None:
        """Has who waits in another thread wait no more, since the command was told to stop at once."""
        self._given_up = True

    def _ask(self, ask: Callable[[], Answer]) -> Answer:
        start, is_announced = time.monotonic(), False
        while True:
            try:
                answer = ask()
            except AwayError as error:
                waited = time.monotonic() - start
                if self._given_up or waited + PAUSE > PATIENCE:
                    bound = "" if self._given_up else f": none within {PATIENCE:.0f} s"
                    raise UserError(
                        f"{self._whom}: it does not answer{bound} ({one_line(error)}): expected one that does; the "
                        f"same command goes on"
                    ) from error
                if waited + PAUSE > SAID_AFTER and not is_announced:
                    self._tell(f"it does not answer ({one_line(error)}): waiting for up to {PATIENCE:.0f} s")
                    is_announced = True
                time.sleep(PAUSE)
            else:
                if is_announced:
                    self._tell("it answers again")
                return answer

    def _tell(self, sentence: str) -> None:
        if self._tells:
            logger.warning(f"{self._whom}: {sentence}")
