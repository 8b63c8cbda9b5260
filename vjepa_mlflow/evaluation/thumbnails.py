"""A few small frames of a video, kept so that a run whose features are there opens no video for its pictures."""

import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vjepa_mlflow.files.cache import cache_folder
from vjepa_mlflow.files.cached import cache_bytes, cached_bytes
from vjepa_mlflow.runtime.workers import complete
from vjepa_mlflow.video import Sampling, VideoError, VideoFile, check_content, read_clip

VERSION = 3
"""Of what is kept. It changes with the code that samples frames."""


def thumbnail_cache_dir(cache: str) -> Path | None:
    """The folder for what was made of videos, with the recipe's `cache`; None where nothing is kept on disk."""
    return cache_folder() / "thumbnails" if cache == "disk" else None


def read_thumbnails(
    files: Sequence[VideoFile], sampling: Sampling, *, kept: Path | None
) -> list[np.ndarray | VideoError]:
    """Frames spread over the centred clips of several videos, in their order.

    Args:
        files: the videos.
        sampling: of a clip.
        kept: a folder for what was made before; None keeps nothing.

    Returns:
        Of each video uint8 RGB of shape (frames, height, width, 3), or what is wrong with it.
    """
    read = _Read(sampling, kept)
    return complete([read.cached(file.digest) for file in files], files, read, description="Reading thumbnails")


@dataclass(frozen=True)
class _Read:
    sampling: Sampling
    kept: Path | None

    def __call__(self, file: VideoFile) -> np.ndarray | VideoError:
        try:
            small = choose_thumbnails(read_clip(file.path, **vars(self.sampling)))
            check_content(file.path, file.digest)
        except VideoError as error:
            return error
        if self.kept is not None:
            cache_bytes(self._place(self.kept, file.digest), _to_bytes(small), within=self.kept)
        return small

    def cached(self, digest: str) -> np.ndarray | None:
        """What was kept of a content."""
        content = None if self.kept is None else cached_bytes(self._place(self.kept, digest))
        with suppress(ValueError):
            return None if content is None else np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
        return None

    def _place(self, kept: Path, digest: str) -> Path:
        return kept / digest[:2] / f"{digest}-{self.sampling.name}-{VERSION}"


def choose_thumbnails(frames: np.ndarray, *, count: int = 6, height: int = 96) -> np.ndarray:
    """Picks `count` frames spread over a clip and scales them to `height` pixels."""
    chosen = frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
    width = max(1, round(frames.shape[2] * height / frames.shape[1]))
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height))) for frame in chosen])


def _to_bytes(frames: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, frames, allow_pickle=False)
    return buffer.getvalue()
