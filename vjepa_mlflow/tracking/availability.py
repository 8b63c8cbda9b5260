"""Whether the tracking server takes what is delivered to it, and the messages about that."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.tracking.answers import Answer, describe, understand
from vjepa_mlflow.tracking.ending import SECONDS_TO_CLOSE
from vjepa_mlflow.tracking.first_answer import server

logger = get_logger(__name__)

LOOK_AFTER = 5.0
"""Seconds that an attempt may take before it is looked whether anybody is there."""


class Availability:
    """What the attempts of an outbox came to. Warns when the server is away and when it is back, and once of a refusal.

    Args:
        folder: of the outbox.
        run_id: of the run that its entries belong to.
    """

    def __init__(self, folder: Path, run_id: str):
        self._folder = folder
        self._run_id = run_id
        self._lock = threading.Lock()
        self._answers: dict[bool, Answer | None] = {True: None, False: None}  # of artifacts, and of all else
        self._refusals: set[str] = set()  # of which the user was warned
        self._under_way: Path | None = None
        self._was_missed = False  # whether the user was warned that nobody is there, while an attempt was under way

    @property
    def is_blocked(self) -> bool:
        """Whether the last attempt was in vain for all entries."""
        return any(answer is not None and answer.blocks for answer in self._answers.values())

    @contextmanager
    def watched(self, entry: Path) -> Iterator[None]:
        """Looks whether the server is there if the attempt at an entry, in this block, takes long.

        MLflow asks for minutes before it gives up; the user is warned sooner.
        """
        timer = threading.Timer(LOOK_AFTER, self._look_for_server, (entry,))
        timer.daemon = True
        self._under_way = entry
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._under_way = None

    def note(self, error: Exception | None, answer: Answer | None, *, of_artifacts: bool) -> None:
        """Notes what an attempt came to, and warns of it where that is news.

        Args:
            error: that it raised, if it did.
            answer: what that means.
            of_artifacts: whether the store of artifacts had a part in it.
        """
        before, self._answers[of_artifacts] = self._answers[of_artifacts], answer
        place = ", or the store of its artifacts" if of_artifacts else ""
        whom = f"{server_as_subject()}{place}"
        was_missed, self._was_missed = self._was_missed, False
        if answer is None or not answer.blocks:
            if was_missed or (before is not None and before.blocks):
                logger.warning(f"{whom}: it answers again")
        elif answer is not before and error is not None and not was_missed:
            logger.warning(f"{whom}: {self._describe_absence(answer, error)}")
        if error is None or answer is None or answer.blocks:
            return
        refusal = f"{answer.value} ({describe(error, self._run_id)})"
        if refusal not in self._refusals:
            self._refusals.add(refusal)
            logger.warning(f"{whom}: {refusal}: work goes on, and what was refused is kept in {self._folder}")

    def _look_for_server(self, entry: Path) -> None:
        """Warns, while an attempt is still under way, that nobody is there."""
        error = _absence()
        with self._lock:
            if error is None or self._under_way != entry or self.is_blocked:  # of which the user was warned then
                return
            self._was_missed = True
        logger.warning(f"{server_as_subject()}: {self._describe_absence(Answer.TRANSIENT, error)}")

    def _describe_absence(self, answer: Answer, error: Exception) -> str:
        why = describe(error, self._run_id)
        return f"{answer.value} ({why}): work goes on, and what it logs is kept in {self._folder}"


def server_as_subject() -> str:
    """The tracking server, at the beginning of a sentence."""
    return f"T{server()[1:]}"


def _absence() -> Exception | None:
    """Why no tracking server is there, asked once, with MLflow's settings; None where one is, or it is a database."""
    address = mlflow.get_tracking_uri()
    if not address.startswith("http"):
        return None
    try:
        http_request(
            get_default_host_creds(address),
            "/health",
            "GET",
            max_retries=0,
            timeout=SECONDS_TO_CLOSE,
            raise_on_status=False,
        )
    except Exception as error:
        return error if understand(error) is Answer.TRANSIENT else None
    return None
