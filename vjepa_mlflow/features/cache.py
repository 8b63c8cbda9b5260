"""Where features are kept: in the device's memory, in the store, or for want of room only until they are read."""

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import cached_property

import psutil
import torch
from torch import Tensor

from vjepa_mlflow.errors import UserError, expected
from vjepa_mlflow.features.contents import free_space, store_folder
from vjepa_mlflow.features.memory import Budget, FeatureMemory
from vjepa_mlflow.features.names import FeatureSpace
from vjepa_mlflow.features.store import FeatureStore
from vjepa_mlflow.features.transfer import to_device
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.iteration import map_ahead

logger = get_logger(__name__)

SHARE = 0.5
"""Of the memory or the disk that is free at the start: what features may take where no budget is given."""


class FeatureCache:
    """The features of one space that are there, by name.

    The memory of the model's device has what will be read in this process, as far as there is room. The store, which
    is on disk or in the host's memory, has what the device's memory has no room for, and with `cache=disk` everything,
    for other runs. What is wanted and finds no room is held until it is read. As a context manager it ends with its
    threads.

    Args:
        space: of the features.
        recipe: `cache` and `cache_budget` are used.
        device: where features are wanted.
        size: in bytes, of one clip's.

    Attributes:
        full: whether some features were not kept for want of room, or of the right to write to the store.
    """

    def __init__(self, space: FeatureSpace, recipe: Recipe, device: torch.device, *, size: int):
        self._device, self._size = device, size
        host, budget = torch.device("cpu"), math.ceil(recipe.cache_budget * 2**30)
        self._device_memory = FeatureMemory(device)
        self._store: FeatureStore | FeatureMemory = FeatureMemory(host)
        self._store_budget = Budget(0)
        if recipe.cache == "disk":
            self._store = FeatureStore(space)
            self._store_budget = Budget(budget or int(SHARE * free_space(store_folder())))
        elif recipe.cache == "memory" and device != host:
            self._store_budget = Budget(budget or int(SHARE * _free_memory(host)))
        is_on_device = recipe.cache == "memory" and device == host  # which has no other memory
        self._device_size = budget if is_on_device and budget else None
        self._tells = recipe.cache != "off"
        self.full = False
        self._held: dict[str, Tensor] = {}
        self._lost: set[str] = set()  # what is there and cannot be read, nor perhaps deleted
        self._doubtful: set[str] = set()  # what was lost once

    @cached_property
    def _device_budget(self) -> Budget:
        """Made when first something is asked of it."""
        size = self._device_size
        return Budget(int(SHARE * _free_memory(self._device)) if size is None else size)

    @property
    def _lasts(self) -> bool:
        return isinstance(self._store, FeatureStore)

    def room(self, *, wanted: bool) -> int:
        """For how many clips there is any, in the device's memory only if they are wanted in this process."""
        on_device = self._device_budget.left // self._size if wanted else 0
        stored = 0 if self.denial else self._store_budget.left // self._size
        return max(on_device, stored) if self._lasts else on_device + stored

    def has(self, name: str) -> bool:
        return self.on_device(name) is not None or self.is_stored(name)

    def on_device(self, name: str) -> Tensor | None:
        """What is on the device already."""
        features = self._device_memory.read(name)
        return self._held.get(name) if features is None else features

    def is_stored(self, name: str) -> bool:
        return name not in self._lost and name in self._store

    def fetch(self, names: Sequence[str]) -> Generator[Tensor | None, None, None]:
        """Yields what is stored, in turn, on the device; None for what turns out to be lost."""
        with closing(map_ahead(self._fetch, names)) as fetched:
            for name, features in zip(names, fetched, strict=True):
                if features is None:
                    self._lost.add(name)
                    self._doubtful.add(name)
                yield features

    def _fetch(self, name: str) -> Tensor | None:
        features = self._store.read(name)
        return None if features is None else to_device(features, self._device)

    def put(self, name: str, features: Tensor, *, wanted: bool, new: bool) -> None:
        """Keeps features as far as there is room.

        Args:
            name: theirs.
            features: on the device.
            wanted: whether they will be read in this process.
            new: whether they have just been encoded.

        Raises:
            UserError: the store's disk is full.
        """
        if wanted and self._device_memory.read(name) is None and self._device_budget.take(self._size):
            self._device_memory.write(name, features)
        is_on_device = self._device_memory.read(name) is not None
        if new and (self._lasts or (wanted and not is_on_device)):
            if self._store_budget.take(self._size):
                self._store.write(name, features)
                self._lost.discard(name)
                self._tell_denied()
            else:
                self.tell_full()
        is_safe = is_on_device or (self.is_stored(name) and not self.full and name not in self._doubtful)
        if wanted and new and not is_safe:
            self._held[name] = features.clone()  # a part of a batch would keep the whole batch

    def drop(self, name: str, *, keeps_memory: bool) -> None:
        """Lets go of what has been read, but for what is in the store.

        Args:
            name: whose features.
            keeps_memory: whether what is kept in memory stays there, and only what found no room goes.
        """
        self._held.pop(name, None)
        if keeps_memory:
            return
        if self._device_memory.drop(name):
            self._device_budget.give_back(self._size)
        if isinstance(self._store, FeatureMemory) and self._store.drop(name):
            self._store_budget.give_back(self._size)

    def finish(self) -> None:
        """Waits until what was put is kept.

        Raises:
            UserError: the store's disk is full.
        """
        self._store.finish()
        self._tell_denied()

    def close(self) -> None:
        """Lets go of what is in memory, and ends the threads that write to the store; see `FeatureStore.close`."""
        self._held.clear()
        self._device_memory.close()
        self._store.close()

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_kept(self) -> None:
        """Refuses a store that this user may not write to, for work that is done for it alone.

        Raises:
            UserError: something could not be kept there.
        """
        if (denial := self.denial) is not None:
            raise UserError(
                f"feature store {store_folder()}: cannot be written ({denial.strerror}): expected "
                f"{expected(denial)}; VJEPA_MLFLOW_CACHE names another folder"
            )

    @property
    def denial(self) -> OSError | None:
        """Why nothing may be written to the store; None as long as that is not known."""
        return self._store.denial if isinstance(self._store, FeatureStore) else None

    def _tell_denied(self) -> None:
        if (denial := self.denial) is not None and not self.full:
            logger.warning(
                f"feature store {store_folder()}: cannot be written ({denial.strerror}): what is not there is encoded "
                f"again by each run; VJEPA_MLFLOW_CACHE names another folder"
            )
            self.full = True

    def tell_full(self) -> None:
        """Says, once, that there is no room for everything."""
        if self._tells and not self.full:
            logger.warning("The cache is full: further clips are encoded whenever they are needed (see cache_budget)")
        self.full = True


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
