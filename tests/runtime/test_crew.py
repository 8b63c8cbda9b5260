"""Processes that really work, and are really paused."""

import errno
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from crew_work import work
from helpers import wait_until

from vjepa_mlflow.runtime.asking import Asker, BusyError, Job
from vjepa_mlflow.runtime.crew import Crew
from vjepa_mlflow.runtime.processes import ForkServer
from vjepa_mlflow.runtime.turns import MOST_HELD

HEAVY = 0.15


class Work(Job[int]):
    def __init__(self, asker: Asker, seconds: float, *, limit: float = 20.0):
        super().__init__(asker, limit=limit)
        self._seconds = seconds
        self.ended = 0

    def begin(self) -> tuple[bytes, Sequence[int]]:
        return json.dumps(self._seconds).encode(), ()

    def finish(self, answer: bytes) -> int:
        return json.loads(answer)

    def broken(self, *, late: bool) -> Exception:
        return TimeoutError() if late else EOFError()

    def end(self) -> None:
        self.ended += 1


@pytest.fixture(scope="module")
def make() -> Iterator[Callable[[], Crew]]:
    """Makes crews of one process that works, and two that are paused."""
    crews: list[Crew] = []

    def crew() -> Crew:
        server = ForkServer("crew_work", PYTHONPATH=str(Path(__file__).parents[1]))
        crews.append(Crew(server, work, count=1, places=3, heavy=HEAVY))
        return crews[-1]

    yield crew
    for one in crews:
        one.close()


@pytest.fixture(scope="module")
def crew(make: Callable[[], Crew]) -> Crew:
    return make()


def asker() -> Asker:
    return Asker(may_be_refused=True)


def test_who_wants_little_does_not_wait_for_who_wants_much(crew: Crew) -> None:
    heavy, light = asker(), asker()
    with crew.serving(heavy), crew.serving(light):
        long = Work(heavy, 1.0)
        crew.submit(long)
        wait_until(lambda: crew.is_working)
        time.sleep(0.15)
        process = crew.submit(Work(light, 0.01)).result(5)
        assert not long.future.done()
        assert long.future.result(10) != process
        assert long.seconds < 10 * light.seconds + 3  # what it was paused for is not its own
        assert (heavy.refused, long.ended) == (False, 1)


def test_where_there_is_no_room_goes_who_has_had_most(make: Callable[[], Crew]) -> None:
    crew, light = make(), asker()
    heavy = [asker() for _ in range(4)]
    with ExitStack() as serving:
        for one in (*heavy, light):
            serving.enter_context(crew.serving(one))
        jobs = [Work(one, 30.0) for one in heavy]
        for job in jobs:
            crew.submit(job)
        time.sleep(4 * HEAVY)
        assert crew.submit(Work(light, 0.01)).result(5)
        refused = [job for job in jobs if job.asker.refused]
        assert 1 <= len(refused) < len(jobs)
        for job in refused:
            with pytest.raises(BusyError):
                job.future.result(1)
            with pytest.raises(BusyError):
                crew.submit(Work(job.asker, 0.0)).result(1)


def test_one_alone_is_not_refused_for_many(make: Callable[[], Crew]) -> None:
    crew, heavy = make(), asker()
    with crew.serving(heavy):
        long = crew.submit(Work(heavy, 4 * HEAVY))
        while not long.done():
            many = [asker() for _ in range(5)]
            for future in [crew.submit(Work(one, 0.01)) for one in many]:
                future.result(5)
            for one in many:
                with crew.serving(one):
                    pass
        assert long.result(0)


def test_what_takes_too_long_or_kills_its_process_is_told_and_the_next_is_done(crew: Crew) -> None:
    one = asker()
    with crew.serving(one):
        with pytest.raises(TimeoutError):
            crew.submit(Work(one, 9.0, limit=0.1)).result(5)
        with pytest.raises(EOFError):
            crew.submit(Work(one, -1.0)).result(5)
        assert crew.submit(Work(one, 0.0)).result(5)


def test_what_comes_just_after_its_limit_is_taken_and_the_next_is_done(crew: Crew) -> None:
    """Whether or not the thread has looked in between."""
    one = asker()
    with crew.serving(one):
        for number in range(8):
            with suppress(TimeoutError):
                crew.submit(Work(one, 0.03 + number / 2000, limit=0.03)).result(5)
        assert crew.submit(Work(one, 0.0)).result(5)


def test_what_cannot_begin_is_told_and_leaves_nothing(crew: Crew) -> None:
    class Unready(Work):
        def begin(self) -> tuple[bytes, Sequence[int]]:
            raise OSError(errno.EMFILE, "Too many open files")

    one = asker()
    with crew.serving(one):
        crew.submit(Work(one, 0.0)).result(5)
        before = len(children(crew))
        with pytest.raises(OSError, match="Too many"):
            crew.submit(Unready(one, 0.0)).result(5)
        assert crew.submit(Work(one, 0.0)).result(5)
        assert len(children(crew)) == before


def test_what_is_left_of_an_asker_ends_with_its_block(crew: Crew) -> None:
    one = asker()
    with crew.serving(one):
        jobs = [Work(one, 30.0), Work(one, 0.0)]
        for job in jobs:
            crew.submit(job)
        wait_until(lambda: crew.is_working)
        process = children(crew)[-1]
    for job in jobs:
        with pytest.raises(CancelledError):
            job.future.result(5)
    wait_until(lambda: not process.is_running())


def test_no_more_is_begun_for_who_takes_no_results(crew: Crew) -> None:
    one, other = asker(), asker()
    with crew.serving(one), crew.serving(other):
        one.held = MOST_HELD
        waits = crew.submit(Work(one, 0.0))
        crew.submit(Work(other, 0.0)).result(5)
        assert not waits.done()
        crew.let_go(one, MOST_HELD)
        assert waits.result(5)


def test_a_server_that_was_killed_is_started_again(make: Callable[[], Crew]) -> None:
    crew, one = make(), asker()
    with crew.serving(one):
        first = crew.submit(Work(one, 0.0)).result(5)
        crew._turns._server._process.kill()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not crew._turns._idle)
        assert crew.submit(Work(one, 0.0)).result(9) != first


def children(crew: Crew) -> list[psutil.Process]:
    return psutil.Process(crew._turns._server._process.pid).children()
