"""What is asked of processes that take turns, and by whom."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class BusyError(Exception):
    """There is no room for all that is asked, and this asker has had the most."""


class Asker:
    """Whoever asks for work: a request to a server, or a call of `predict`.

    Args:
        may_be_refused: whether its work may be given up where there is no room for that of others.

    Attributes:
        seconds: that processes have worked for it.
        held: bytes of results that it has, and has not let go.
        refused: whether its work was given up.
    """

    def __init__(self, *, may_be_refused: bool):
        self.may_be_refused = may_be_refused
        self.seconds = 0.0
        self.held = 0
        self.refused = False


class Job(ABC, Generic[Result]):
    """Something to be done in a process.

    Args:
        asker: for whom.
        limit: seconds that it may take, those not counted for which it is paused.

    Attributes:
        future: its result, or what is to be told in its place.
    """

    def __init__(self, asker: Asker, *, limit: float):
        self.asker, self.limit = asker, limit
        self.future: Future[Result] = Future()
        self.seconds = 0.0

    @abstractmethod
    def begin(self) -> tuple[bytes, Sequence[int]]:
        """What is sent to the process, and descriptors that go with it."""

    @abstractmethod
    def finish(self, answer: bytes) -> Result:
        """Reads what the process answers; what this raises is told in place of a result."""

    @abstractmethod
    def broken(self, *, late: bool) -> Exception:
        """What is to be told where the process died of it, or took longer than the limit."""

    def end(self) -> None:
        """Gives up what `begin` made; called in the end, whatever came of it."""


def tell(job: Job[Any], error: BaseException) -> None:
    """Tells whoever still waits for a job that it will not be done."""
    if not job.future.done() and (job.future.running() or job.future.set_running_or_notify_cancel()):
        job.future.set_exception(error)
    job.end()


def settle(job: Job[Result], result: Callable[[], Result]) -> None:
    try:
        value = result()
    except BaseException as error:
        job.future.set_exception(error)
    else:
        job.future.set_result(value)
    finally:
        job.end()


def fail(error: BaseException) -> Any:
    """Raises an error, where a function is wanted that does."""
    raise error
