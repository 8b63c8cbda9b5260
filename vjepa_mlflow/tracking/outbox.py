"""What a run logs, kept in a folder until the tracking server has it."""

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import mlflow

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.temporary import PREFIX
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.secrets import without_password
from vjepa_mlflow.tracking.answers import understand
from vjepa_mlflow.tracking.availability import Availability, server_as_subject
from vjepa_mlflow.tracking.ending import SECONDS_TO_CLOSE
from vjepa_mlflow.tracking.entries import (
    CONTENT,
    DamageError,
    entries,
    kind_of,
    number_of,
    write_entry,
    write_sealed,
)
from vjepa_mlflow.tracking.outbox_folder import ADDRESS, END, Address, End, name_model, remove, warn_of_damage

logger = get_logger(__name__)

RETRY_INTERVAL = 2.0
"""Seconds from one attempt that the server does not answer to the next, beside the retries that MLflow makes itself."""


class Outbox:
    """A folder of entries, delivered by a thread one after the other, in the order in which they came.

    An entry is a folder with `entry.json` and the files that belong to it. It appears complete or not at all, and goes
    so when it has been delivered; one that is delivered twice must do no harm. While the server does not answer, or
    lets nobody in, the first entry is tried again and again. One that it refuses is set aside for those behind it, and
    one that is damaged for good.

    The thread is there within a `with` block.

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
        self._availability = Availability(folder, run_id)
        name_model(folder)
        _sweep_out(folder)
        self._waiting = deque(entries(folder))
        self._refused: list[Path] = []
        self._damaged: dict[Path, str] = {}
        self._number = number_of(self._waiting[-1]) if self._waiting else 0
        self._transient_failures = 0  # attempts that were in vain for all entries
        self._flushing = self._closed = False
        self._error: Exception | None = None
        with suppress(IsADirectoryError):  # in its place: the folder's name says the run, too
            write_sealed(folder / ADDRESS, asdict(Address(run_id, without_password(mlflow.get_tracking_uri()))))
        self._thread = threading.Thread(target=self._work, daemon=True, name="outbox")

    def __enter__(self) -> "Outbox":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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

        Whoever interrupts that waits for the same one, and for others on the way out, for `SECONDS_TO_CLOSE` at most.
        """
        if self.is_blocked:
            logger.warning(
                f"{server_as_subject()}: it is asked once more, which may take minutes; Ctrl-C leaves everything in "
                f"{self.folder}"
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
        return self._availability.is_blocked

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
            blocks = answer is not None and answer.blocks
            if error is None or blocks or entry in self._waiting:  # else it was discarded meanwhile
                with suppress(Exception):  # what is said of an error asks the store, too
                    self._availability.note(error, answer, of_artifacts=of_artifacts)
            with self._changed:
                self._error = error or self._error
                if blocks:
                    self._transient_failures += 1
                elif entry in self._waiting:
                    self._waiting.remove(entry)
                    self._refused += [entry] if error else []
                self._changed.notify_all()
                if blocks:
                    self._changed.wait_for(lambda: self._flushing or self._closed, RETRY_INTERVAL)

    def _next(self) -> Path | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting[0]

    def _attempt(self, entry: Path) -> Exception | None:
        with self._availability.watched(entry):
            try:
                self._deliver(entry)
            except Exception as error:  # whatever a server, a database or a store of artifacts has to say
                return error
        remove(entry)
        return None

    def _put_aside(self, entry: Path, why: str) -> None:
        with self._changed:
            is_wanted = entry in self._waiting  # else it was discarded meanwhile
            if is_wanted:
                self._waiting.remove(entry)
                self._damaged[entry] = why
            self._changed.notify_all()
        if is_wanted:
            warn_of_damage([why])


def _sweep_out(folder: Path) -> None:
    """Deletes what killed processes left half made, or half deleted."""
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _fault(error: OSError) -> str:
    """What went wrong, in a line; for the first file of a folder that was copied."""
    return str(error.args[0][0][2]) if isinstance(error, shutil.Error) else one_line(error)
