"""What each kind of data is to those that read it."""

from abc import ABC, abstractmethod
from pathlib import Path

from vjepa_mlflow.data.samples import Listing


class DataSource(ABC):
    """Data of one kind: a subclass says what that kind is known by, and how it is read.

    A kind is known by a name, as the demo is, or by what lies at a place. `listing.SOURCES` has all kinds, in the order
    in which they are asked.

    Args:
        place: where the data lies, absolute.
    """

    def __init__(self, place: Path):
        self.place = place

    @classmethod
    def named(cls, data: str) -> "DataSource | None":  # noqa: ARG003
        """The data, where it goes by a name and not by a path, if it is of this kind. Nothing is looked at."""
        return None

    @classmethod
    def at(cls, place: Path) -> "DataSource | None":  # noqa: ARG003
        """The data that lies at a place, where something does, if it is of this kind.

        Raises:
            UserError: that cannot be told.
        """
        return None

    @abstractmethod
    def read(self) -> Listing:
        """Lists its labelled videos, and what else is there. Nothing is decoded.

        Raises:
            UserError: it cannot be understood.
        """
