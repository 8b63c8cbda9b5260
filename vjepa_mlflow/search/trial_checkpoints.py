"""The checkpoints of a sweep's trials on this machine, so that a retry goes on where the last try stopped."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from vjepa_mlflow.files.cache import own_folder


def checkpoint_path(run_id: str, trial: int) -> Path:
    """The file of a trial's checkpoint.

    Args:
        run_id: the sweep's.
        trial: its number.
    """
    return _folder(run_id) / f"{trial}.safetensors"


def forget_checkpoints(run_id: str, *, but: Collection[int]) -> None:
    """Deletes the checkpoints of a sweep's trials, and what killed processes have left beside them.

    Args:
        run_id: the sweep's.
        but: trials that may go on.
    """
    folder = _folder(run_id)
    for path in folder.glob("*"):
        if path.stem not in map(str, but):
            path.unlink(missing_ok=True)
    for empty in (folder, folder.parent):
        with suppress(OSError):  # there is none, or it is in use
            empty.rmdir()


def _folder(run_id: str) -> Path:
    return own_folder("trials") / run_id
