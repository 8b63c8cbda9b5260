"""What a run logs, kept in a folder until the tracking server has it."""

import fcntl
import os
import shlex
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from vjepa_mlflow.errors import UserError, expected, one_line
from vjepa_mlflow.files.temporary import PREFIX
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.secrets import without_password
from vjepa_mlflow.tracking.answers import Answer, describe, understand
from vjepa_mlflow.tracking.entries import (
    CONTENT,
    DamageError,
    entries,
    kind_of,
    number_of,
    place_for,
    read_entry,
    write_entry,
    write_sealed,
)
from vjepa_mlflow.tracking.first_answer import server
from vjepa_mlflow.tracking.outbox_folder import (
    ADDRESS,
    END,
    Address,
    End,
    damage_beside,
    holds_any,
    is_finished,
    locked,
    name_model,
    outboxes,
    read_end,
    remove,
    remove_if_empty,
    remove_outbox,
    root_of,
)

logger = get_logger(__name__)

RETRY_INTERVAL = 2.0
"""Seconds from one attempt that the server does not answer to the next, beside the retries that MLflow makes itself."""

SAID_AFTER = 5.0
"""Seconds that an attempt may take before it is looked whether anybody is there."""

SECONDS_TO_CLOSE = 5
"""For which the end of a run that gave delivery up waits: for what is under way, and for each last answer."""


class UndeliveredError(UserError):
    """The tracking server, or the registry, has not got all of a run; what is missing is in a folder."""


class UndeliveredPartError(UndeliveredError):
    """The same of a run nested in another one, whose job cannot go on without."""


class DamagedError(UndeliveredError):
    """Some of what a run left in a folder is damaged, and stays there; all else has been delivered."""

    def __init__(self, folder: Path, damage: Sequence[str]):
        more = f", and {len(damage) - 1} more" if len(damage) > 1 else ""
        super().__init__(
            f"{damage[0]}{more}: what is damaged cannot be delivered and stays, all else has been; with it mended, or "
            f"deleted to do without it: vjepa-mlflow upload {shlex.quote(str(folder))}"
        )


class Outbox:
    """A folder of entries, delivered by a thread one after the other, in the order in which they came.

    An entry is a folder with `entry.json` and the files that belong to it. It appears complete or not at all, and goes
    so when it has been delivered; one that is delivered twice must do no harm. While the server does not answer, or
    lets nobody in, the first entry is tried again and again. One that it refuses is set aside for those behind it, and
    one that is damaged for good.

    Args:
        folder: of this outbox alone.
        run_id: of the run that the entries belong to.
        deliver: takes an entry's folder to the server, or raises.
    """

    _is_abandoned = False
    """Whether a wait for any of this process's was interrupted since the last one was made."""

    def __init__(self, folder: Path, run_id: str, deliver: Callable[[Path], None]):
        self.folder = folder
        self._deliver = deliver
        self._changed = threading.Condition()
        Outbox._is_abandoned = False
        self._run_id = run_id
        name_model(folder)
        _sweep_out(folder)
        self._waiting = deque(entries(folder))
        self._refused: list[Path] = []
        self._damaged: dict[Path, str] = {}
        self._number = number_of(self._waiting[-1]) if self._waiting else 0
        self._transient_failures = 0  # attempts that were in vain for all entries
        self._flushing = self._closed = False
        self._answers: dict[bool, Answer | None] = {True: None, False: None}  # of artifacts, and of all else
        self._told: set[str] = set()  # refusals
        self._under_way: Path | None = None
        self._is_missed = False  # whether it was told that nobody is there, while an attempt was under way
        self._error: Exception | None = None
        with suppress(IsADirectoryError):  # in its place: its run is found without it
            write_sealed(folder / ADDRESS, asdict(Address(run_id, without_password(mlflow.get_tracking_uri()))))
        self._thread = threading.Thread(target=self._work, daemon=True, name="outbox")
        self._thread.start()

    def put(self, kind: str, values: Mapping[str, Any], content: Path | bytes | None = None) -> None:
        """Adds an entry, and returns before it is delivered.

        Args:
            kind: what it is, see `tracking.delivery`.
            values: in JSON; with a content there is a `name` among them.
            content: of the file, or a file or folder, which is copied, or linked where that is the same.

        Raises:
            UserError: the folder's disk is full.
        """
        with self._changed:
            # By the clock, so that they can be put in their order which several processes left one after the other.
            self._number = max(self._number + 1, time.time_ns())
            entry = self.folder / f"{self._number}-{kind}"
        try:
            write_entry(entry, values, content)
        except OSError as error:
            raise UserError(f"{self.folder}: what is logged cannot be kept there ({_fault(error)})") from error
        with self._changed:
            self._waiting.append(entry)
            self._changed.notify_all()

    def discard(self, kind: str) -> None:
        """Drops the entries of a kind that have not been delivered: there is something newer."""
        with self._changed:
            dropped = [entry for entry in [*self._waiting, *self._refused, *self._damaged] if kind_of(entry) == kind]
            self._waiting = deque(entry for entry in self._waiting if entry not in dropped)
            self._refused = [entry for entry in self._refused if entry not in dropped]
            self._damaged = {entry: why for entry, why in self._damaged.items() if entry not in dropped}
        for entry in dropped:
            remove(entry)

    def flush(self) -> Exception | None:
        """Waits until everything has been delivered, or has been tried once more in vain; returns why it was.

        Whoever interrupts that is kept by the same one, and by others on the way out, for `SECONDS_TO_CLOSE` at most.
        """
        if self.is_blocked:
            logger.warning(
                f"{_server()}: it is asked once more, which may take minutes; Ctrl-C leaves everything in {self.folder}"
            )
        with self._changed:
            self._waiting.extendleft(reversed(self._refused))
            self._refused = []
            before = self._transient_failures
            self._flushing = True
            self._changed.notify_all()
            try:
                self._changed.wait_for(
                    lambda: not self._waiting or self._transient_failures > before,
                    SECONDS_TO_CLOSE if self._is_abandoned else None,
                )
            except KeyboardInterrupt:
                Outbox._is_abandoned = True
                raise
            finally:
                self._flushing = False
            if self._waiting or self._refused:
                return self._error or InterruptedError("interrupted before it had")
            return None

    @property
    def damage(self) -> list[str]:
        """What is wrong with the entries that cannot be delivered."""
        return list(self._damaged.values())

    @property
    def is_blocked(self) -> bool:
        """Whether the last attempt was in vain for all entries."""
        return any(answer is not None and answer.blocks for answer in self._answers.values())

    def leave_end(self, status: str) -> None:
        """Notes how, and when, the run ended; for whoever delivers the rest."""
        write_sealed(self.folder / END, asdict(End(status, int(time.time() * 1000))))

    def close(self) -> None:
        """Ends the thread. What has not been delivered stays in the folder; what is under way may still get there."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(SECONDS_TO_CLOSE)

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            of_artifacts = (entry / CONTENT).exists()
            error = self._attempt(entry)
            if isinstance(error, DamageError):
                self._put_aside(entry, str(error))
                continue
            answer = None if error is None else understand(error)
            if answer is None or answer.blocks or entry in self._waiting:  # else it was discarded meanwhile
                self._tell(error, answer, of_artifacts=of_artifacts)
            with self._changed:
                self._error = error or self._error
                if answer is not None and answer.blocks:
                    self._transient_failures += 1
                elif entry in self._waiting:
                    self._waiting.remove(entry)
                    self._refused += [entry] if error else []
                self._changed.notify_all()
                if answer is not None and answer.blocks:
                    self._changed.wait_for(lambda: self._flushing or self._closed, RETRY_INTERVAL)

    def _put_aside(self, entry: Path, why: str) -> None:
        with self._changed:
            is_wanted = entry in self._waiting  # else it was discarded meanwhile
            if is_wanted:
                self._waiting.remove(entry)
                self._damaged[entry] = why
            self._changed.notify_all()
        if is_wanted:
            _tell_damage([why])

    def _next(self) -> Path | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting[0]

    def _attempt(self, entry: Path) -> Exception | None:
        # MLflow asks for minutes before it gives up; it is told sooner.
        watch = threading.Timer(SAID_AFTER, self._look_for_the_server, (entry,))
        watch.daemon = True
        self._under_way = entry
        watch.start()
        try:
            self._deliver(entry)
        except Exception as error:  # whatever a server, a database or a store of artifacts has to say
            return error
        finally:
            watch.cancel()
            self._under_way = None
        remove(entry)
        return None

    def _look_for_the_server(self, entry: Path) -> None:
        """Tells, while an attempt is still under way, that nobody is there."""
        error = _absence()
        with self._changed:
            if error is None or self._under_way != entry or self.is_blocked:  # which was told then
                return
            self._is_missed = True
        logger.warning(f"{_server()}: {self._describe_absence(Answer.TRANSIENT, error)}")

    def _describe_absence(self, answer: Answer, error: Exception) -> str:
        why = describe(error, self._run_id)
        return f"{answer.value} ({why}): work goes on, and what it logs is kept in {self.folder}"

    def _tell(self, error: Exception | None, answer: Answer | None, *, of_artifacts: bool) -> None:
        """Tells when the server falls silent, and when it answers again; and of each kind of refusal once."""
        before, self._answers[of_artifacts] = self._answers[of_artifacts], answer
        place = ", or the store of its artifacts" if of_artifacts else ""
        server = f"{_server()}{place}"
        missed, self._is_missed = self._is_missed, False
        if answer is None or not answer.blocks:
            if missed or (before is not None and before.blocks):
                logger.warning(f"{server}: it answers again")
        elif answer is not before and error is not None and not missed:
            logger.warning(f"{server}: {self._describe_absence(answer, error)}")
        if error is None or answer is None or answer.blocks:
            return
        why = f"{answer.value} ({describe(error, self._run_id)})"
        if why not in self._told:
            self._told.add(why)
            logger.warning(f"{server}: {why}: work goes on, and what was refused is kept in {self.folder}")


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


def _server() -> str:
    """The tracking server, at the beginning of a sentence."""
    return f"T{server()[1:]}"


def _sweep_out(folder: Path) -> None:
    """Deletes what killed processes left half made, or half deleted."""
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _fault(error: OSError) -> str:
    """What went wrong, in a line; for the first file of a folder that was copied."""
    return str(error.args[0][0][2]) if isinstance(error, shutil.Error) else one_line(error)


def _tell_damage(damage: Sequence[str]) -> None:
    for one in damage:
        logger.warning(f"{one}: it cannot be delivered, and stays there")


@contextmanager
def open_outbox(run_id: str, deliver: Callable[[Path], None]) -> Iterator[Outbox]:
    """An outbox for a run, which begins with what killed processes left in theirs.

    Raises:
        UserError: there is no room for one.
    """
    root = root_of(run_id)
    folder = root / uuid.uuid4().hex
    try:
        with ExitStack() as held:
            with _alone(root):  # so that nobody takes it for one that was left
                _make(folder)
                held.enter_context(locked(folder))
                _adopt(root, folder)
            outbox = Outbox(folder, run_id, deliver)
            try:
                yield outbox
            finally:
                outbox.close()
                if not holds_any(folder):
                    remove_outbox(folder)
    finally:
        remove_if_empty(root)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Makes a folder, and keeps other processes out of such a block of theirs."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _no_place(folder, error) from error
    try:
        with suppress(OSError):  # a file system may have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise _no_place(folder, error) from error


def _no_place(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder}: cannot be made ({one_line(error)}): expected {expected(error)}, for what the tracking server "
        f"has not got yet; VJEPA_MLFLOW_CACHE names another folder"
    )


def _adopt(root: Path, folder: Path) -> None:
    """Takes over the entries of outboxes whose processes have died, but for those that hold a finished job.

    What is damaged stays where it is. How the run ended before counts no more.
    """
    for left in root.glob(f"{PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    for other in [path for path in outboxes(root) if path != folder]:
        with locked(other) as free:
            if not free or is_finished(other):
                continue
            damage = list(_take_entries(other, folder))
            with suppress(DamageError):
                if read_end(other) is not None:
                    (other / END).unlink()
            damage += damage_beside(other)
            _tell_damage(damage)
            if not damage:
                remove(other)


def _take_entries(other: Path, folder: Path) -> Iterator[str]:
    """Takes over an outbox's entries; yields what is wrong with those that are damaged."""
    for entry in entries(other):
        try:
            read_entry(entry)
        except DamageError as error:
            yield str(error)
        else:
            entry.rename(place_for(entry, folder))
