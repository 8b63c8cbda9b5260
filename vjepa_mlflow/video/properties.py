"""What can be measured of a video, whatever it shows: how long, how bright, how sharp, how much moves."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vjepa_mlflow.kept import read_note, write_note
from vjepa_mlflow.video.decode import sample_clip
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.notes import check_content
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.sampling import Sampling, choose_frames
from vjepa_mlflow.workers import complete

VERSION = 3
"""Changes with what is measured, so that no older note is taken for it."""

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue, as in ITU-R BT.601."""

PICTURE_SIDE, MOTION_SIDE = 256, 64
"""Pixels that frames' shorter side is scaled down to before pictures and motion are measured."""

BLOCK, REACH = 8, 7
"""Pixels of a block's side, and how far it is searched for in the next frame."""

STANDSTILL = 0.002
"""How much better a block must fit for each pixel that it has moved, so that plain areas stand still."""

COLOURS = 4
"""Levels of each colour channel in a histogram."""


@dataclass(frozen=True)
class VideoProperties:
    """Measured properties of a video. Light is from 0 (black) to 1 (white).

    `duration`, `resolution` and `bits_per_pixel` are of the whole file, the others of its centred clip: what a model
    sees of it.

    Attributes:
        duration: in seconds.
        resolution: the frames' shorter side in pixels.
        bits_per_pixel: the file's size over its pixels in all frames: the less, the more compressed.
        brightness: mean luma.
        contrast: standard deviation of luma within a frame, mean over frames.
        sharpness: variance of the Laplacian of luma in 8-bit values (Pech-Pacheco et al., 2000), mean over frames.
        frame_difference: mean absolute difference of luma from one frame of the clip to the next.
        motion: mean displacement of blocks of 8x8 pixels of the frame scaled down to 64, found by full search in the
            next frame (Jain and Jain, 1981), in shorter sides a second.
        scene_diversity: how different the frames' colour histograms are, from 0 (equal) to 1 (nothing in common):
            one less their intersection (Swain and Ballard, 1991), mean over all pairs.
    """

    duration: float
    resolution: float
    bits_per_pixel: float
    brightness: float
    contrast: float
    sharpness: float
    frame_difference: float
    motion: float
    scene_diversity: float


class VideoFile(NamedTuple):
    """A file and the SHA-256 of its content, hexadecimal."""

    path: Path
    digest: str


def measure_videos(
    files: Sequence[VideoFile], sampling: Sampling, *, notes: Path | None = None
) -> list[VideoProperties | VideoError]:
    """Measures several files at once, in their order.

    Args:
        files: the videos.
        sampling: of a clip.
        notes: a folder that remembers what was measured of a content, which is then not read again; None remembers
            nothing.
    """
    measure = _Measure(sampling, notes)
    noted = [measure.noted(file.digest) for file in files]
    return complete(noted, files, measure, description="Measuring videos")


@dataclass(frozen=True)
class _Measure:
    sampling: Sampling
    notes: Path | None

    def __call__(self, file: VideoFile) -> VideoProperties | VideoError:
        try:
            properties = measure_video(file.path, self.sampling)
            check_content(file.path, file.digest)
        except VideoError as error:
            return error
        write_note(self._note(file.digest), asdict(properties), within=self.notes)
        return properties

    def noted(self, digest: str) -> VideoProperties | None:
        """What was measured before of a file with this content."""
        return read_note(self._note(digest), VideoProperties)

    def _note(self, digest: str) -> Path | None:
        name = f"{digest}-{self.sampling.name}-{VERSION}"
        return None if self.notes is None else self.notes / digest[:2] / name


def measure_video(path: Path, sampling: Sampling) -> VideoProperties:
    """Measures one file.

    Raises:
        VideoError: it cannot be decoded.
    """
    clip, timeline = sample_clip(Source(path), sampling, position=0.5)
    indices, first = np.unique(choose_frames(timeline.seconds, sampling, position=0.5), return_index=True)
    seconds = float(np.ptp(timeline.seconds[indices]))
    frames = clip[first].astype(np.float32) / 255  # each of them once
    height, width = frames.shape[1:3]
    luma = frames @ np.array(LUMA, np.float32)
    picture = _scale_down(luma, PICTURE_SIDE)
    return VideoProperties(
        duration=timeline.duration,
        resolution=float(min(height, width)),
        bits_per_pixel=8 * path.stat().st_size / (height * width * timeline.num_frames),
        brightness=float(picture.mean()),
        contrast=float(picture.std(axis=(1, 2)).mean()),
        sharpness=_sharpness(picture),
        frame_difference=float(np.abs(np.diff(picture, axis=0)).mean()) if len(picture) > 1 else 0.0,
        motion=_motion(_scale_down(luma, MOTION_SIDE)) * (len(frames) - 1) / seconds if seconds else 0.0,
        scene_diversity=_diversity(_scale_down(np.moveaxis(frames, -1, 0), MOTION_SIDE)),
    )


def _scale_down(frames: np.ndarray, side: int) -> np.ndarray:
    """Means over equal areas, so that the shorter side has so many pixels; frames are of shape (..., height, width)."""
    height, width = frames.shape[-2:]
    scale = side / min(height, width)
    if scale >= 1:
        return frames
    rows, columns = _averaging(height, round(height * scale)), _averaging(width, round(width * scale))
    return rows @ np.ascontiguousarray(frames) @ columns.T


def _averaging(size: int, count: int) -> np.ndarray:
    """The matrix, of shape (count, size), that takes values to their means over so many equal parts.

    A value on the edge of two parts counts for both.
    """
    places, parts = np.arange(size), np.arange(count)[:, None]
    within = (places >= parts * size // count) & (places < -(-(parts + 1) * size // count))
    return (within / within.sum(axis=1, keepdims=True)).astype(np.float32)


def _sharpness(luma: np.ndarray) -> float:
    if min(luma.shape[-2:]) < 3:
        return 0.0
    neighbours = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    edges = 255 * (neighbours - 4 * luma[:, 1:-1, 1:-1])
    return float(edges.var(axis=(1, 2)).mean())


def _motion(luma: np.ndarray) -> float:
    """Mean displacement of a block from one frame to the next, in shorter sides."""
    count, height, width = luma.shape
    rows, columns = height // BLOCK, width // BLOCK
    if count < 2 or not rows or not columns:
        return 0.0
    before = luma[:-1, : rows * BLOCK, : columns * BLOCK]
    after = np.pad(luma[1:], ((0, 0), (REACH, REACH), (REACH, REACH)), mode="edge")
    shifts = [(y, x) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1) if y * y + x * x <= REACH**2]
    lengths = np.linalg.norm(np.array(shifts, np.float32), axis=1)
    costs = np.stack(
        [
            _block_means(np.abs(before - after[:, REACH + y :, REACH + x :][:, : rows * BLOCK, : columns * BLOCK]))
            for y, x in shifts
        ]
    )
    best = (costs + STANDSTILL * lengths[:, None, None, None]).argmin(axis=0)
    return float(lengths[best].mean()) / min(height, width)


def _block_means(values: np.ndarray) -> np.ndarray:
    of_rows = values.reshape(len(values), -1, BLOCK, values.shape[2]).sum(axis=2)
    return of_rows.reshape(*of_rows.shape[:2], -1, BLOCK).sum(axis=3) / BLOCK**2


def _diversity(channels: np.ndarray) -> float:
    """Of three colour channels of shape (3, frames, height, width)."""
    count = channels.shape[1]
    if count < 2:
        return 0.0
    red, green, blue = np.minimum((channels * COLOURS).astype(np.int64), COLOURS - 1).reshape(3, count, -1)
    colours = (red * COLOURS + green) * COLOURS + blue
    of_frames = colours + COLOURS**3 * np.arange(count)[:, None]
    histograms = np.bincount(of_frames.ravel(), minlength=count * COLOURS**3).reshape(count, -1) / colours.shape[1]
    shared = np.minimum(histograms[:, None], histograms[None]).sum(axis=-1)
    pairs = count * (count - 1)
    return max(0.0, 1 - float(shared.sum() - np.trace(shared)) / pairs)
