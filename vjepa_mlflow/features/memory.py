"""Features kept in memory between epochs."""

from collections.abc import Iterator, Sequence

import psutil
from torch import Tensor

from vjepa_mlflow.features.encoder import Clip, Encoder
from vjepa_mlflow.video import View

SHARE_OF_MEMORY = 0.5
"""Of the memory free at the start; features beyond it are encoded again whenever they are wanted."""


class FeatureMemory:
    """Encodes each clip once, as far as memory goes."""

    def __init__(self, encoder: Encoder):
        self._encoder = encoder
        self._kept: dict[tuple[str, View], Tensor] = {}
        self._free = int(SHARE_OF_MEMORY * psutil.virtual_memory().available)

    def read(self, clips: Sequence[Clip], *, keep: bool) -> Iterator[Tensor]:
        """Yields the features of each clip in turn, of shape (tokens, hidden size).

        Args:
            clips: what to encode.
            keep: whether these clips will be asked for again.
        """
        known = [self._kept.get(_key(clip)) for clip in clips]
        encoded = self._encoder.encode(clip for clip, features in zip(clips, known, strict=True) if features is None)
        for clip, kept in zip(clips, known, strict=True):
            features = next(encoded) if kept is None else kept
            if keep and kept is None:
                self._keep(clip, features)
            yield features

    def _keep(self, clip: Clip, features: Tensor) -> None:
        if features.nbytes <= self._free:
            self._kept[_key(clip)] = features.to("cpu", copy=True)
            self._free -= features.nbytes


def _key(clip: Clip) -> tuple[str, View]:
    return clip.sample.digest, clip.view
