"""A few small frames of a video, kept so that a run whose features are there opens no video for its pictures."""

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from vjepa_mlflow.data import Sample
from vjepa_mlflow.kept import keep, recall
from vjepa_mlflow.video import Sampling, read_clip

VERSION = 3
"""Of what is kept. It changes with the code that samples frames."""


def read_thumbnails(sample: Sample, sampling: Sampling, *, kept: Path | None) -> np.ndarray:
    """Frames spread over a video's centred clip.

    Args:
        sample: the video.
        sampling: of the clip.
        kept: a folder for what was made before; None keeps nothing.

    Returns:
        uint8 RGB of shape (frames, height, width, 3).

    Raises:
        VideoError: the video has to be read and cannot be.
    """
    if kept is None:
        return choose_thumbnails(read_clip(sample.path, **vars(sampling)))
    file = kept / sample.digest[:2] / f"{sample.digest}-{sampling.name}-{VERSION}"
    with suppress(ValueError):
        if (content := recall(file)) is not None:
            return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    small = choose_thumbnails(read_clip(sample.path, **vars(sampling)))
    keep(file, _to_bytes(small), within=kept)
    return small


def choose_thumbnails(frames: np.ndarray, *, count: int = 6, height: int = 96) -> np.ndarray:
    """Picks `count` frames spread over a clip and scales them to `height` pixels."""
    chosen = frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
    width = max(1, round(frames.shape[2] * height / frames.shape[1]))
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height))) for frame in chosen])


def _to_bytes(frames: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, frames, allow_pickle=False)
    return buffer.getvalue()
