"""What is done with videos that cannot be used."""

from dataclasses import dataclass
from typing import ClassVar

from vjepa_mlflow.errors import UserError

STOP, SKIP, REPORT = "stop", "skip", "report"
"""Refuse the work; leave them out of it; or, of a prediction, say what is wrong in their rows."""

_LEFT_OUT = f"bad_videos={SKIP}"


@dataclass(frozen=True)
class BadVideos:
    """What a recipe says is done: a run stops, or leaves them out.

    Attributes:
        choice: one of `CHOICES`.
    """

    CHOICES: ClassVar[tuple[str, ...]] = (STOP, SKIP)

    choice: str

    def before_training(self, data: str, *, count: str, first: str) -> str:
        """Of the videos that the check found.

        Args:
            data: what the user named.
            count: how many of how many they are, in words.
            first: the name of one.

        Returns:
            What is told where they are left out.

        Raises:
            UserError: the run stops.
        """
        if self.choice == STOP:
            raise UserError(
                f"data={data}: {count} cannot be used, the first is {first}: expected readable videos; mend them, or "
                f"leave them out with {_LEFT_OUT}"
            )
        return f"Left out {count} ({_LEFT_OUT})"

    def instead_of_training(self, data: str, *, count: str) -> None:
        """Of those that `check` found, where no training follows.

        Args:
            data: what the user named.
            count: how many of how many they are, in words.

        Raises:
            UserError: a training would stop.
        """
        if self.choice == STOP:
            raise UserError(
                f"data={data}: {count} cannot be used: a training would stop there; mend them, or leave them out with "
                f"{_LEFT_OUT}"
            )

    def while_training(self, path: object, fault: Exception) -> str:
        """Of one that was whole when it was checked, and is not any more.

        Args:
            path: its file.
            fault: what is wrong with it.

        Returns:
            What is told where it is left out from then on.

        Raises:
            UserError: the run stops.
        """
        if self.choice == STOP:
            raise UserError(
                f"{path}: {fault}: expected it to be as the check found it; {_LEFT_OUT} leaves it out"
            ) from fault
        return f"{path}: {fault}: left out from here on ({_LEFT_OUT})"
