"""Clips of many files, read ahead in worker processes, which do without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vjepa_mlflow.video.decode import sample_clip
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.notes import FileVersion, check_content, file_version, recall_timeline
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.sampling import Sampling
from vjepa_mlflow.workers import WorkerPool

if TYPE_CHECKING:
    from torch import Tensor


class ClipRequest(NamedTuple):
    """A clip of a file, at a position from 0 (its start) to 1 (its end).

    Where the file has not the version any more that it had, its content must still have the digest.
    """

    path: Path
    position: float
    version: FileVersion | None = None
    digest: str = ""


class ClipReader:
    """Reads clips in worker processes, a few ahead of whoever takes them.

    Args:
        sampling: of the clips.
        notes: the folder in which `inspect_videos` noted timelines; None: nowhere.
        pin_memory: into page-locked memory, from where a GPU takes them without waiting.
    """

    def __init__(self, sampling: Sampling, *, notes: Path | None = None, pin_memory: bool = False):
        self._pool = WorkerPool(_Read(sampling, notes), finish=_pinned if pin_memory else _as_tensor)

    def begin(self, requests: Iterable[ClipRequest]) -> None:
        """Starts to read the first of the clips that `read` will be asked for next."""
        self._pool.begin(requests)

    def read(
        self, requests: Iterable[ClipRequest], following: Iterable[ClipRequest] = ()
    ) -> Iterator[Tensor | VideoError]:
        """Yields uint8 RGB frames of shape (frames, height, width, 3), or what is wrong with the file.

        Args:
            requests: the clips.
            following: what is likely to be read next, and is begun when the last of these is on its way.
        """
        return self._pool.map(requests, following)


@dataclass(frozen=True)
class _Read:
    sampling: Sampling
    notes: Path | None

    def __call__(self, request: ClipRequest) -> np.ndarray | VideoError:
        try:
            timeline = recall_timeline(self.notes, request.path, request.version)
            clip = sample_clip(Source(request.path), self.sampling, request.position, timeline)
            _check_version(request)
        except VideoError as error:
            return error
        return clip.frames


def _as_tensor(read: np.ndarray | VideoError) -> Tensor | VideoError:
    import torch

    return read if isinstance(read, VideoError) else torch.from_numpy(read)


def _pinned(read: np.ndarray | VideoError) -> Tensor | VideoError:
    frames = _as_tensor(read)
    return frames if isinstance(frames, VideoError) else frames.pin_memory()


def _check_version(request: ClipRequest) -> None:
    """Refuses a file that has changed since; what tells that is looked at first, since a digest takes long."""
    try:
        unchanged = request.version in (None, file_version(request.path))
    except OSError as error:
        raise VideoError(f"it cannot be read ({error.strerror})") from error
    if not unchanged:
        check_content(request.path, request.digest)
