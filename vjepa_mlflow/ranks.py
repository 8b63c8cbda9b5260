"""One process's share of work that `torchrun` or several machines divide among themselves."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """Every `world_size`-th item, from the one at `rank` on; all of them for a process that works alone."""

    rank: int = 0
    world_size: int = 1

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        return items[self.rank :: self.world_size]

    def first(self, count: int) -> list[int]:
        """The indices of all items, this share's own first and then the others', the next rank's before the rest."""
        return [index for turn in range(self.world_size) for index in self._indices(turn, count)]

    def _indices(self, turn: int, count: int) -> range:
        return range((self.rank + turn) % self.world_size, count, self.world_size)


def launched_share() -> Share:
    """This process's share as `torchrun` gives it in the environment."""
    return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def local_rank() -> int:
    """This process's number among those that `torchrun` started on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """How many processes `torchrun` started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
