"""Processes that work for several askers in fair turns: no work of one of them holds up another's."""

import logging
import os
import selectors
import signal
import socket
import statistics
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from typing import Any, Generic, NamedTuple, TypeVar

from vjepa_mlflow.channel import Channel
from vjepa_mlflow.processes import ForkServer

Result = TypeVar("Result")

TURN = 0.1
"""Seconds that a process works before it is paused for an asker that has had so much less."""

PATIENCE = 0.1
"""Seconds of what one has had that are forgotten for each that it waits: so many that want little leave it a share."""

TIMES_USUAL = 8
"""Times what askers usually take of processes' seconds that one must have had to be refused where there is no room for
others: where all take long nobody is to blame."""

REMEMBERED = 50
"""Askers whose seconds say what is usual."""

MOST_HELD = 1 << 26
"""Bytes of results of one asker that nobody has taken yet, beyond which no more of its work is begun."""

LARGEST_ANSWER = 1 << 16

logger = logging.getLogger(__name__)


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


class Crew:
    """Processes that do jobs, each one at a time, of which only so many work at once.

    Who has had least of their time is next. A process that works for one that has had more is paused meanwhile; so it
    does not matter how long a job takes. Where there is no room to pause another process, and several askers have had
    far more than usual, the one that has had most is refused.

    Args:
        server: from which the processes are forked; it is closed with this.
        work: what they do, with an end of a channel: see `serve_jobs`.
        count: how many work at once.
        places: how many there are at most, with those that are paused.
        heavy: seconds of processes below which no asker is refused, and after which a process is not used again: what
            has taken long has taken memory, too, of which much would stay.
    """

    def __init__(self, server: ForkServer, work: Callable[[Channel], None], *, count: int, places: int, heavy: float):
        self._work = _Work(server, work, count, places, heavy)
        self._thread = threading.Thread(target=self._work.run, name="crew", daemon=True)
        self._thread.start()
        # The thread does not hold this object, with which its processes go, at the latest with the program.
        self.close = weakref.finalize(self, _end, self._work, self._thread)

    @contextmanager
    def serving(self, asker: Asker) -> Iterator[None]:
        """What the asker still waits for is given up when the block is left."""
        try:
            yield
        finally:
            self._work.post(lambda: self._work.forget(asker))

    def submit(self, job: "Job[Result]") -> "Future[Result]":
        """Has a job done when its asker's turn comes."""
        self._work.post(lambda: self._work.add(job))
        return job.future

    def let_go(self, asker: Asker, size: int) -> None:
        """Says that somebody has taken so many bytes of an asker's results."""
        self._work.post(lambda: self._work.let_go(asker, size))

    def refuse(self, asker: Asker) -> None:
        """Gives up an asker's work, which is told a BusyError."""
        self._work.post(lambda: self._work.refuse(asker))

    @property
    def is_working(self) -> bool:
        """Whether any job is done just now."""
        return bool(self._work.working)

    def abandon(self) -> None:
        """In a fork of the process that made it: lets go of what is that process's."""
        self.close.detach()
        self._work.abandon()


def serve_jobs(channel: Channel) -> socket.socket:
    """For a process of a crew: where it gets jobs from, each a message with descriptors, and answers each of them."""
    _, (descriptor,) = channel.receive(descriptors=1)
    channel.let_go()
    return socket.socket(fileno=descriptor)


def _end(work: "_Work", thread: threading.Thread) -> None:
    work.post(work.close)
    if thread is not threading.current_thread():  # which may be the one to forget the last of its users
        thread.join()


class _Line(NamedTuple):
    """What one asker wants of a crew.

    Attributes:
        asker: whose it is.
        waiting: jobs that have not begun.
        paused: processes with jobs that have.
        since: when it last got something, or began to wait.
    """

    asker: Asker
    waiting: "deque[Job[Any]]"
    paused: "list[_Member]"
    since: list[float]

    def wants(self) -> bool:
        return bool(self.paused or self.may_begin())

    def may_begin(self) -> bool:
        return bool(self.waiting) and self.asker.held < MOST_HELD

    def rank(self, now: float) -> float:
        """The lower, the sooner it is its turn."""
        return self.asker.seconds - PATIENCE * (now - self.since[0])


class _Work:
    """What a crew's thread does. Nothing of it is touched by other threads, but for what they `post`."""

    def __init__(self, server: ForkServer, work: Callable[[Channel], None], count: int, places: int, heavy: float):
        self._server, self._function = server, work
        self._count, self._places, self._heavy = count, places, heavy
        self._posted: deque[Callable[[], None]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._closed = False
        self._lines: dict[Asker, _Line] = {}
        self._idle: list[_Member] = []
        self.working: list[_Member] = []
        self._usual: deque[float] = deque(maxlen=REMEMBERED)

    def post(self, action: Callable[[], None]) -> None:
        """Has the thread do something."""
        self._posted.append(action)
        with suppress(BlockingIOError, OSError):  # it is awake, or has ended
            self._wake.send(b"\0", socket.MSG_DONTWAIT)

    def run(self) -> None:
        while not self._closed:
            try:
                self._look()
            except Exception:  # nobody else would hear of it, and all would wait for ever
                logger.exception("The processes are given up, and others begin")
                self._begin_anew()
        for end in (self._wake, self._woken, self._selector):
            end.close()

    def _look(self) -> None:
        for key, _ in self._selector.select(self._seconds_to_wait()):
            if key.fileobj is self._woken:
                with suppress(BlockingIOError):
                    self._woken.recv(1 << 12)
            elif isinstance(key.data, _Member):
                self._hear(key.data)
        while self._posted:
            self._posted.popleft()()
        now = time.monotonic()
        self._count_time(now)
        self._give_turns(now)

    def _begin_anew(self) -> None:
        lines, members = list(self._lines.values()), self._all_members()
        self._lines, self._idle, self.working = {}, [], []
        for job in [*(member.job for member in members), *(job for line in lines for job in line.waiting)]:
            if job is not None:
                _tell(job, RuntimeError("it was given up with others"))
        for member in members:
            with suppress(KeyError, ValueError, OSError):  # it was gone already
                self._remove(member)

    def close(self) -> None:
        """Ends all processes. Nobody waits for what was not done, but threads that end with the program."""
        for member in self._all_members():
            self._remove(member)
        self._server.close()
        self._closed = True

    def add(self, job: Job[Any]) -> None:
        asker = job.asker
        if asker.refused:
            _tell(job, BusyError())
            return
        if asker not in self._lines:
            self._lines[asker] = _Line(asker, deque(), [], [time.monotonic()])
        self._lines[asker].waiting.append(job)

    def forget(self, asker: Asker) -> None:
        if (line := self._lines.get(asker)) is not None:
            self._give_up(line, CancelledError)
            del self._lines[asker]
            if not asker.refused:
                self._usual.append(min(asker.seconds, self._heavy))  # or many heavy ones would be usual

    def refuse(self, asker: Asker) -> None:
        asker.refused = True
        if (line := self._lines.get(asker)) is not None:
            self._give_up(line, BusyError)

    def abandon(self) -> None:
        for member in self._all_members():
            member.let_go()
        for end in (self._wake, self._woken, self._selector):
            end.close()

    def let_go(self, asker: Asker, size: int) -> None:
        asker.held -= size

    def _all_members(self) -> "list[_Member]":
        paused = [member for line in self._lines.values() for member in line.paused]
        return [*self._idle, *self.working, *paused]

    def _seconds_to_wait(self) -> float | None:
        if not self.working:
            return None
        if any(line.wants() for line in self._lines.values()):
            return TURN / 2
        return max(0.0, min(member.seconds_left for member in self.working))

    def _hear(self, member: "_Member") -> None:
        """Takes an answer, or notes a death."""
        if member.ended:  # for what was heard of another one just before
            return
        try:
            answer = member.socket.recv(LARGEST_ANSWER)
        except BlockingIOError:
            return
        except OSError:
            answer = b""
        member.count_time(time.monotonic())
        job = self._take_from(member)
        if answer and job is not None:
            if job.seconds > self._heavy:
                self._remove(member)
            else:
                member.resume()  # it may have been paused just then
                self._idle.append(member)
            _settle(job, lambda: job.finish(answer))
        else:  # one that was asked nothing has nothing to say
            self._remove(member)
            if job is not None:
                _settle(job, lambda: _raise(job.broken(late=False)))

    def _count_time(self, now: float) -> None:
        for member in list(self.working):
            member.count_time(now)
            if member.seconds_left <= 0 and (job := self._take_from(member)) is not None:
                self._remove(member)
                _settle(job, lambda job=job: _raise(job.broken(late=True)))  # type: ignore[misc]

    def _give_turns(self, now: float) -> None:
        while (line := self._next(now)) is not None:
            if len(self.working) >= self._count:
                last = max(self.working, key=lambda member: member.had)
                if not last.gives_way_to(line, now):
                    return
                self._pause(last)
            line.since[0] = now
            if line.paused:
                member = line.paused.pop()
                member.resume()
                self.working.append(member)
            else:
                self._begin(line.waiting.popleft())

    def _next(self, now: float) -> "_Line | None":
        """Whose turn it is, of those that something can be done for; one that has had far too much may give way."""
        wanting = sorted((line for line in self._lines.values() if line.wants()), key=lambda line: line.rank(now))
        for line in wanting:
            if line.paused or self._has_room() or self._make_room_for(line):
                return line
        return None

    def _has_room(self) -> bool:
        paused = sum(len(line.paused) for line in self._lines.values())
        return len(self.working) + paused < self._places

    def _make_room_for(self, line: "_Line") -> bool:
        usual = statistics.median(self._usual) if self._usual else 0.0
        most = max(self._heavy, TIMES_USUAL * usual)
        holders = {member.job.asker for member in self._all_members() if member.job is not None} - {line.asker}
        heavy = [asker for asker in holders if asker.may_be_refused and asker.seconds > most]
        if len(heavy) < 2:  # one alone is paused for others, and so is not in their way
            return False
        self.refuse(max(heavy, key=lambda asker: asker.seconds))
        return True

    def _begin(self, job: Job[Any]) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        try:
            sent = job.begin()
            member = self._idle.pop() if self._idle else self._add_member()
        except Exception as error:
            logger.exception("A process cannot be given work")
            _tell(job, error)
            return
        self.working.append(member)
        member.begin(job, *sent)

    def _add_member(self) -> "_Member":
        member = _Member.start(self._server, self._function)
        self._selector.register(member.socket, selectors.EVENT_READ, member)
        return member

    def _pause(self, member: "_Member") -> None:
        member.pause()
        self.working.remove(member)
        if member.job is not None:
            self._lines[member.job.asker].paused.append(member)

    def _give_up(self, line: "_Line", error: type[Exception]) -> None:
        """Ends all that is done for an asker."""
        for job in line.waiting:
            _tell(job, error())
        line.waiting.clear()
        for member in [*self.working, *line.paused]:
            if member.job is not None and member.job.asker is line.asker:
                job = member.job
                self._take_from(member)
                self._remove(member)
                _settle(job, lambda: _raise(error()))

    def _take_from(self, member: "_Member") -> Job[Any] | None:
        """Takes its job from a process, which is neither at work nor paused from then on."""
        if member in self.working:
            self.working.remove(member)
        elif member.job is not None:
            self._lines[member.job.asker].paused.remove(member)
        else:
            self._idle.remove(member)
        job, member.job = member.job, None
        return job

    def _remove(self, member: "_Member") -> None:
        member.ended = True
        self._selector.unregister(member.socket)
        member.end()


class _Member:
    """A process of a crew."""

    def __init__(self, ours: socket.socket, process: int):
        self.socket, self._process = ours, process
        self.job: Job[Any] | None = None
        self.ended = False
        self._began = 0.0
        self._counted: float | None = None  # until when its work was counted; None: it does not work

    @classmethod
    def start(cls, server: ForkServer, work: Callable[[Channel], None]) -> "_Member":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            started = server.start(work)
            process = os.pidfd_open(started.process_id)
            started.channel.send(None, theirs.fileno())
            started.channel.let_go()
        ours.setblocking(False)
        return cls(ours, process)

    def begin(self, job: Job[Any], message: bytes, descriptors: Sequence[int]) -> None:
        self.job = job
        self._began = self._counted = time.monotonic()
        try:
            socket.send_fds(self.socket, [message], descriptors)
        except OSError:  # it is dead, or takes no such message: it will be heard of
            self._send(signal.SIGKILL)

    @property
    def seconds_left(self) -> float:
        return self.job.limit - self.job.seconds if self.job is not None else float("inf")

    def count_time(self, now: float) -> None:
        if self.job is not None and self._counted is not None:
            self.job.seconds += now - self._counted
            self.job.asker.seconds += now - self._counted
            self._counted = now

    @property
    def had(self) -> float:
        """Seconds that the one has had that it works for."""
        return self.job.asker.seconds if self.job is not None else 0.0

    def gives_way_to(self, line: _Line, now: float) -> bool:
        is_another = self.job is None or self.job.asker is not line.asker
        return is_another and now - self._began >= TURN and line.rank(now) + TURN < self.had

    def pause(self) -> None:
        self._counted = None
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._began = self._counted = time.monotonic()
        self._send(signal.SIGCONT)

    def end(self) -> None:
        self._send(signal.SIGKILL)
        self.let_go()

    def let_go(self) -> None:
        os.close(self._process)
        self.socket.close()

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, number)


def _tell(job: Job[Any], error: BaseException) -> None:
    """Tells whoever still waits for a job that it will not be done."""
    if not job.future.done() and (job.future.running() or job.future.set_running_or_notify_cancel()):
        job.future.set_exception(error)
    job.end()


def _settle(job: Job[Result], result: Callable[[], Result]) -> None:
    try:
        found = result()
    except BaseException as error:
        job.future.set_exception(error)
    else:
        job.future.set_result(found)
    finally:
        job.end()


def _raise(error: BaseException) -> Any:
    raise error
