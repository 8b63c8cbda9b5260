"""Features in memory, a GPU's or the host's, and how much of anything may be kept."""

import torch
from torch import Tensor


class FeatureMemory:
    """Features by name in a device's memory."""

    def __init__(self, device: torch.device):
        self._device = device
        self._features: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._features

    def read(self, name: str) -> Tensor | None:
        return self._features.get(name)

    def write(self, name: str, features: Tensor) -> None:
        # A copy: a part of a batch would keep the whole batch.
        self._features[name] = features.to(self._device, copy=True)

    def drop(self, name: str) -> bool:
        """Lets features go. Returns whether there were any."""
        return self._features.pop(name, None) is not None

    def finish(self) -> None:
        """Nothing is on its way: `write` is done when it returns."""

    def close(self) -> None:
        """Lets go of everything."""
        self._features.clear()

    def __enter__(self) -> "FeatureMemory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Budget:
    """Bytes that may be used.

    Attributes:
        left: how many are not.
    """

    def __init__(self, size: int):
        self.left = size

    def take(self, wanted: int) -> bool:
        """Whether so many bytes were left, which are used then."""
        granted = wanted <= self.left
        self.left -= wanted if granted else 0
        return granted

    def give_back(self, used: int) -> None:
        self.left += used
