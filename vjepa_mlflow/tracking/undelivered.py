"""The errors that say what the tracking server has not got of a run."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from vjepa_mlflow.errors import UserError


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
