"""The folder of an outbox: what belongs there, who works in it, and what is wrong with it."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.cache import own_folder
from vjepa_mlflow.files.temporary import PREFIX
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.tracking.entries import DamageError, is_entry, read_about, read_sealed

logger = get_logger(__name__)

OUTBOXES = "outbox"
ADDRESS = "outbox.json"
LOCK = "lock"
END = "end.json"
MODEL, MODEL_NOTE = "model", "publication.json"
"""A model that is kept in the folder, to be logged after all entries, and what goes with it."""

UNNAMED_MODEL = f"{PREFIX}{MODEL}"
"""Such a model before what goes with it is there."""


@dataclass(frozen=True)
class Address:
    """Where the entries of a folder belong; no password is noted."""

    run_id: str
    tracking_uri: str


@dataclass(frozen=True)
class End:
    """How a run is to end once everything has been delivered, and when it did here, in milliseconds."""

    status: str
    end_time: int


def root_of(run_id: str) -> Path:
    """Where the outboxes of a run are."""
    return own_folder(OUTBOXES) / run_id


def outboxes(root: Path) -> list[Path]:
    """The folders of outboxes there."""
    return sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith(PREFIX))


def written_here(run_id: str) -> bool | None:
    """Whether a process of this machine writes to a run; None where none ever did, as far as can be seen."""
    free = []
    for folder in outboxes(root_of(run_id)):
        with suppress(OSError), locked(folder) as is_free:
            free.append(is_free)
    return not all(free) if free else None


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Holds a folder's lock during the block, which a process that dies lets go. Yields whether it was free."""
    descriptor = _open_lock(folder / LOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        is_free = False
    else:
        is_free = True
    try:
        yield is_free
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    """A pipe in its place is not waited for, and a folder is as good."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
    except IsADirectoryError:
        return os.open(path, os.O_RDONLY)


def is_finished(folder: Path) -> bool:
    """Whether an outbox holds all of a job that has come to its end, and only waits to be delivered.

    One of which the end or the model is damaged does not: the run may go on, and get there once more.
    """
    if damage_beside(folder):
        return False
    end = read_end(folder)
    return (folder / MODEL_NOTE).exists() or (end is not None and end.status == "FINISHED")


def finished_outbox(run_id: str) -> Path | None:
    """The folder that holds what a job of a run could not deliver in the end; None where there is none."""
    return next((folder for folder in outboxes(root_of(run_id)) if is_finished(folder)), None)


def read_address(folder: Path) -> Address:
    """Where the entries of an outbox belong; without a tracking URI where only the run is clear.

    Raises:
        UserError: the folder is none.
    """
    try:
        return read_sealed(folder / ADDRESS, Address)
    except FileNotFoundError:
        why = f"{folder / ADDRESS}: is missing"
    except (DamageError, OSError) as error:
        why = str(error)
    root = folder.absolute().parent
    if root.parent.name != OUTBOXES or not holds_any(folder):
        raise UserError(
            f"{folder}: expected a folder that a run named when its tracking server did not take everything; it "
            f"goes once all of it is delivered"
        )
    logger.warning(f"{why}: by the folder's name it is of run {root.name}")
    return Address(root.name, "")


def read_end(folder: Path) -> End | None:
    """How the run of an outbox is to end; None where that is not for us to decide.

    Raises:
        DamageError: it cannot be read any more.
    """
    try:
        return read_sealed(folder / END, End)
    except FileNotFoundError:
        return None


def damage_beside(folder: Path) -> list[str]:
    """What is wrong with what an outbox holds beside its entries."""
    damage = []
    for read in (read_end, read_publication):
        try:
            read(folder)
        except DamageError as error:
            damage.append(str(error))
    expected = {ADDRESS, LOCK, END, MODEL, MODEL_NOTE}
    for path in _contents(folder):
        if path.name not in expected and not is_entry(path):
            damage.append(f"{path}: is nothing that a run leaves")
    return damage


def warn_of_damage(damage: Sequence[str]) -> None:
    """Warns of what cannot be delivered, each in a line."""
    for fault in damage:
        logger.warning(f"{fault}: it cannot be delivered, and stays there")


def name_model(folder: Path) -> None:
    """Gives a model its name if what goes with it is there: whoever kept them may have been killed before."""
    if (folder / MODEL_NOTE).exists() and not (folder / MODEL).exists():
        with suppress(FileNotFoundError):
            (folder / UNNAMED_MODEL).rename(folder / MODEL)


def read_publication(folder: Path) -> dict[str, Any] | None:
    """What goes with the model that is kept in an outbox, if that is whole; None where there is no model.

    Raises:
        DamageError: either is damaged.
    """
    name_model(folder)
    try:
        return read_about(folder / MODEL_NOTE, folder / MODEL)
    except FileNotFoundError:
        if (folder / MODEL).exists():
            raise DamageError(f"{folder / MODEL_NOTE}: is missing, without which the model beside it is none") from None
        return None


def _contents(folder: Path) -> list[Path]:
    """What lies in an outbox, but for what is not complete, and what others hide there."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []


def holds_any(folder: Path) -> bool:
    """Whether there is anything to deliver in an outbox, or was."""
    return any(path.name not in (ADDRESS, LOCK) for path in _contents(folder))


def remove(folder: Path) -> None:
    """Deletes a folder, which goes as a whole: a process that is killed meanwhile leaves nothing that looks like it."""
    gone = folder.with_name(f"{PREFIX}{folder.name}")
    with suppress(OSError):  # it is gone already
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def remove_outbox(folder: Path) -> None:
    """Deletes an outbox whose entries have all been delivered."""
    remove(folder)
    remove_if_empty(folder.parent)


def remove_if_empty(root: Path) -> None:
    """Deletes the folder of a run's outboxes, and the one around it, where there is nothing left."""
    with suppress(OSError):  # where there are others
        root.rmdir()
        root.parent.rmdir()
