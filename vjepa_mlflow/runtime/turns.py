"""Who is next: what the thread of a crew does."""

import logging
import selectors
import socket
import statistics
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from vjepa_mlflow.runtime.asking import Asker, BusyError, Job, fail, settle, tell
from vjepa_mlflow.runtime.channel import Channel
from vjepa_mlflow.runtime.crew_member import Member
from vjepa_mlflow.runtime.processes import ForkServer

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


@dataclass(eq=False)
class _Line:
    """What one asker wants of a crew.

    Attributes:
        asker: whose it is.
        waiting: jobs that have not begun.
        paused: processes with jobs that have.
        since: when it last got something, or began to wait.
    """

    asker: Asker
    waiting: deque[Job[Any]] = field(default_factory=deque)
    paused: list[Member] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def wants(self) -> bool:
        return bool(self.paused or self.may_begin())

    def may_begin(self) -> bool:
        return bool(self.waiting) and self.asker.held < MOST_HELD

    def rank(self, now: float) -> float:
        """The lower, the sooner it is its turn."""
        return self.asker.seconds - PATIENCE * (now - self.since)


class Turns:
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
        self._idle: list[Member] = []
        self.working: list[Member] = []
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
            elif isinstance(key.data, Member):
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
                tell(job, RuntimeError("it was given up with others"))
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
            tell(job, BusyError())
            return
        if asker not in self._lines:
            self._lines[asker] = _Line(asker)
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

    def _all_members(self) -> "list[Member]":
        paused = [member for line in self._lines.values() for member in line.paused]
        return [*self._idle, *self.working, *paused]

    def _seconds_to_wait(self) -> float | None:
        if not self.working:
            return None
        if any(line.wants() for line in self._lines.values()):
            return TURN / 2
        return max(0.0, min(member.seconds_left for member in self.working))

    def _hear(self, member: "Member") -> None:
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
            settle(job, lambda: job.finish(answer))
        else:  # one that was asked nothing has nothing to say
            self._remove(member)
            if job is not None:
                settle(job, lambda: fail(job.broken(late=False)))

    def _count_time(self, now: float) -> None:
        for member in list(self.working):
            member.count_time(now)
            if member.seconds_left <= 0 and (job := self._take_from(member)) is not None:
                self._remove(member)
                settle(job, lambda job=job: fail(job.broken(late=True)))  # type: ignore[misc]

    def _give_turns(self, now: float) -> None:
        while (line := self._next(now)) is not None:
            if len(self.working) >= self._count:
                last = max(self.working, key=lambda member: member.had)
                if not _gives_way(last, line, now):
                    return
                self._pause(last)
            line.since = now
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
            tell(job, error)
            return
        self.working.append(member)
        member.begin(job, *sent)

    def _add_member(self) -> "Member":
        member = Member.start(self._server, self._function)
        self._selector.register(member.socket, selectors.EVENT_READ, member)
        return member

    def _pause(self, member: "Member") -> None:
        member.pause()
        self.working.remove(member)
        if member.job is not None:
            self._lines[member.job.asker].paused.append(member)

    def _give_up(self, line: "_Line", error: type[Exception]) -> None:
        """Ends all that is done for an asker."""
        for job in line.waiting:
            tell(job, error())
        line.waiting.clear()
        for member in [*self.working, *line.paused]:
            if member.job is not None and member.job.asker is line.asker:
                job = member.job
                self._take_from(member)
                self._remove(member)
                settle(job, lambda: fail(error()))

    def _take_from(self, member: "Member") -> Job[Any] | None:
        """Takes its job from a process, which is neither at work nor paused from then on."""
        if member in self.working:
            self.working.remove(member)
        elif member.job is not None:
            self._lines[member.job.asker].paused.remove(member)
        else:
            self._idle.remove(member)
        job, member.job = member.job, None
        return job

    def _remove(self, member: "Member") -> None:
        member.ended = True
        self._selector.unregister(member.socket)
        member.end()


def _gives_way(member: Member, line: _Line, now: float) -> bool:
    """Whether a process is to be paused for an asker: another one, that has had so much less, and not at once."""
    is_another = member.job is None or member.job.asker is not line.asker
    return is_another and member.seconds_at_work(now) >= TURN and line.rank(now) + TURN < member.had
