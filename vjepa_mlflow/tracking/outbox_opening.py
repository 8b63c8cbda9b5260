"""An outbox opened for a run: in a folder of its own, with what processes that have died left in theirs."""

import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vjepa_mlflow.errors import UserError, expected, one_line
from vjepa_mlflow.files.temporary import PREFIX
from vjepa_mlflow.tracking.entries import DamageError, entries, place_for, read_entry
from vjepa_mlflow.tracking.outbox import Outbox
from vjepa_mlflow.tracking.outbox_folder import (
    END,
    damage_beside,
    holds_any,
    is_finished,
    locked,
    outboxes,
    read_end,
    remove,
    remove_if_empty,
    remove_outbox,
    root_of,
    warn_of_damage,
)


@contextmanager
def open_outbox(run_id: str, deliver: Callable[[Path], None]) -> Iterator[Outbox]:
    """An outbox for a run, which begins with what killed processes left in theirs.

    Args:
        run_id: the run's.
        deliver: takes an entry's folder to the server, or raises.

    Raises:
        UserError: there is no room for one.
    """
    root = root_of(run_id)
    folder = root / uuid.uuid4().hex
    try:
        with ExitStack() as stack:
            with _alone(root):  # so that nobody takes it for one that was left
                _make(folder)
                stack.enter_context(locked(folder))
                _adopt(root, folder)
            outbox = Outbox(folder, run_id, deliver)
            try:
                with outbox:
                    yield outbox
            finally:
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
    """Moves here the entries of outboxes whose processes have died, but for those that hold a finished job.

    What is damaged stays where it is. How the run ended before counts no more.
    """
    for unfinished in root.glob(f"{PREFIX}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    for other in [path for path in outboxes(root) if path != folder]:
        with locked(other) as is_free:
            if not is_free or is_finished(other):
                continue
            damage = list(_move_entries(other, folder))
            with suppress(DamageError):
                if read_end(other) is not None:
                    (other / END).unlink()
            damage += damage_beside(other)
            warn_of_damage(damage)
            if not damage:
                remove(other)


def _move_entries(other: Path, folder: Path) -> Iterator[str]:
    """Moves an outbox's entries to another one; yields what is wrong with those that are damaged, and stay."""
    for entry in entries(other):
        try:
            read_entry(entry)
        except DamageError as error:
            yield str(error)
        else:
            entry.rename(place_for(entry, folder))
