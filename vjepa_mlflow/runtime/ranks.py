"""One process's share of work that `torchrun` or several machines divide among themselves."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from vjepa_mlflow.errors import UserError

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
    """This process's share as `torchrun` gives it in the environment.

    Raises:
        UserError: what the environment says is no share.
    """
    world_size = _world_size()
    rank = _number("RANK", default=0)
    if rank >= world_size or (world_size > 1 and not os.environ.get("RANK")):  # a share that nobody has, or two have
        raise UserError(
            f"RANK={os.environ.get('RANK', '')}, WORLD_SIZE={world_size}: expected a rank from 0 to {world_size - 1}, "
            f"another one in each process"
        )
    return Share(rank, world_size)


def check_alone(work: str) -> None:
    """Refuses work that is not divided where `torchrun` started several processes, each of which would do all of it.

    Args:
        work: the command's name.

    Raises:
        UserError: there are several, or the environment says no number.
    """
    if (world_size := _world_size()) > 1:
        raise UserError(
            f"WORLD_SIZE={world_size}: under torchrun {work} would be done {world_size} times: expected one process; "
            f"`torchrun ... -m vjepa_mlflow extract` encodes on several GPUs what train, sweep and evaluate then read, "
            f"each without torchrun, and sweep has --workers"
        )


def local_rank() -> int:
    """This process's number among those that `torchrun` started on this machine."""
    return _number("LOCAL_RANK", default=0)


def local_world_size() -> int:
    """How many processes `torchrun` started on this machine."""
    return _number("LOCAL_WORLD_SIZE", default=1, least=1)


def _world_size() -> int:
    return _number("WORLD_SIZE", default=1, least=1)


def _number(name: str, *, default: int, least: int = 0) -> int:
    """What a variable of the environment says.

    Raises:
        UserError: it says something, and no such number.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    if not (value.isascii() and value.isdecimal()) or int(value) < least:
        raise UserError(f"{name}={value}: expected a whole number of at least {least}, as torchrun gives it")
    return int(value)
