from collections.abc import Sequence

import pytest

from vjepa_mlflow.runtime.asking import Asker, BusyError, Job, fail, settle, tell


class Sum(Job[int]):
    """A job of which it is counted how often it was ended."""

    def __init__(self) -> None:
        super().__init__(Asker(may_be_refused=True), limit=1)
        self.ends = 0

    def begin(self) -> tuple[bytes, Sequence[int]]:
        return b"", ()

    def finish(self, answer: bytes) -> int:
        return int(answer)

    def broken(self, *, late: bool) -> Exception:
        return TimeoutError() if late else EOFError()

    def end(self) -> None:
        self.ends += 1


def begun() -> Sum:
    job = Sum()
    assert job.future.set_running_or_notify_cancel()
    return job


def test_a_result_or_what_reading_it_raises_is_told_and_what_was_made_is_given_up() -> None:
    job = begun()
    settle(job, lambda: job.finish(b"3"))
    assert (job.future.result(), job.ends) == (3, 1)
    job = begun()
    settle(job, lambda: job.finish(b"three"))
    assert isinstance(job.future.exception(), ValueError)
    assert job.ends == 1
    job = begun()
    settle(job, lambda: fail(job.broken(late=True)))
    assert isinstance(job.future.exception(), TimeoutError)


def test_who_still_waits_is_told_that_it_will_not_be_done() -> None:
    for job in (Sum(), begun()):
        tell(job, BusyError())
        assert isinstance(job.future.exception(), BusyError)
        assert job.ends == 1


def test_what_is_cancelled_or_done_stays_so() -> None:
    job = Sum()
    job.future.cancel()
    tell(job, BusyError())
    assert job.future.cancelled()
    job = begun()
    job.future.set_result(3)
    tell(job, BusyError())
    assert job.future.result() == 3
    with pytest.raises(KeyError):
        fail(KeyError())
