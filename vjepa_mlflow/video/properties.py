"""What can be measured of a video, whatever it shows: how long, how bright, how sharp, how much moves."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vjepa_mlflow.files.cached import cache_values, cached_values
from vjepa_mlflow.runtime.workers import complete
from vjepa_mlflow.video.cached import check_content
from vjepa_mlflow.video.decode import Clip, sample_clip
from vjepa_mlflow.video.error import VideoError
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.sampling import Sampling, choose_frames

VERSION = 4
"""Changes with what is measured, so that no older values are taken for it."""

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
    files: Sequence[VideoFile], sampling: Sampling, *, cache_dir: Path | None = None
) -> list[VideoProperties | VideoError]:
    """Measures several files at once, in their order.

    Args:
        files: the videos.
        sampling: of a clip.
        cache_dir: a folder that remembers what was measured of a content, which is then not read again; None remembers
            nothing.
    """
    measure = Measure(sampling, cache_dir)
    cached = [measure.cached(file.digest) for file in files]
    return complete(cached, files, measure, description="Measuring videos")


@dataclass(frozen=True)
class Measure:
    """Measures a video, and caches what it has measured of its content.

    Attributes:
        sampling: of a clip.
        cache_dir: the folder for that; None caches nothing.
    """

    sampling: Sampling
    cache_dir: Path | None

    def __call__(self, file: VideoFile) -> VideoProperties | VideoError:
        try:
            properties = measure_video(file.path, self.sampling)
            check_content(file.path, file.digest)
        except VideoError as error:
            return error
        self._keep(file, properties)
        return properties

    def cache(self, file: VideoFile, clip: Clip) -> None:
        """Measures a file, and caches that, by its centred clip, which was read for something else."""
        if self.cache_dir is not None and self.cached(file.digest) is None:
            self._keep(file, _measure(file.path, self.sampling, clip))

    def cached(self, digest: str) -> VideoProperties | None:
        """What was measured before of a file with this content."""
        return cached_values(self._cache_path(digest), VideoProperties)

    def _keep(self, file: VideoFile, properties: VideoProperties) -> None:
        cache_values(self._cache_path(file.digest), asdict(properties), within=self.cache_dir)

    def _cache_path(self, digest: str) -> Path | None:
        name = f"{digest}-{self.sampling.name}-{VERSION}"
        return None if self.cache_dir is None else self.cache_dir / digest[:2] / name


def measure_video(path: Path, sampling: Sampling) -> VideoProperties:
    """Measures one file.

    Raises:
        VideoError: it cannot be decoded.
    """
    return _measure(path, sampling, sample_clip(Source(path), sampling, position=0.5))


def _measure(path: Path, sampling: Sampling, clip: Clip) -> VideoProperties:
    frames, timeline = clip
    indices, first = np.unique(choose_frames(timeline.seconds, sampling, position=0.5), return_index=True)
    seconds = float(np.ptp(timeline.seconds[indices]))
    if len(first) < len(frames):  # each of them once
        frames = frames[first]
    height, width = frames.shape[1:3]
    picture = _luma(_scale_down(frames, PICTURE_SIDE))
    small = _scale_down(frames, MOTION_SIDE)
    return VideoProperties(
        duration=timeline.duration,
        resolution=float(min(height, width)),
        bits_per_pixel=8 * path.stat().st_size / (height * width * timeline.num_frames),
        brightness=float(picture.mean()),
        contrast=float(picture.std(axis=(1, 2)).mean()),
        sharpness=_sharpness(picture),
        frame_difference=float(np.abs(np.diff(picture, axis=0)).mean()) if len(picture) > 1 else 0.0,
        motion=_motion(_luma(small)) * (len(frames) - 1) / seconds if seconds else 0.0,
        scene_diversity=_diversity(small),
    )


def _scale_down(frames: np.ndarray, side: int) -> np.ndarray:
    """Frames of which the shorter side is no longer than that, with light from 0 to 1.

    Args:
        frames: uint8 of shape (frames, height, width, channels).
        side: in pixels.

    Returns:
        float32, of the same shape but for height and width.
    """
    height, width = frames.shape[1:3]
    scale = side / min(height, width)
    if scale >= 1:
        return frames.astype(np.float32) / 255
    sums, heights = _sum_parts(frames, round(height * scale), axis=1)
    sums, widths = _sum_parts(sums, round(width * scale), axis=2)
    return (sums / (255 * np.outer(heights, widths)[..., None])).astype(np.float32)


def _sum_parts(frames: np.ndarray, count: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums over so many equal parts of an axis, exact, and how many pixels each part touches; all count in full."""
    size = frames.shape[axis]
    numbers = np.arange(count)
    begins, ends = numbers * size // count, -(-(numbers + 1) * size // count)
    along = np.moveaxis(frames, axis, 0)
    sums = along[begins].astype(np.uint32)
    for place, begin, end in zip(sums, begins, ends, strict=True):
        for values in along[begin + 1 : end]:
            place += values  # which is faster than NumPy's sum of another type than the values'
    # What is computed of them adds up in the order of memory, and rounds by it.
    return np.ascontiguousarray(np.moveaxis(sums, 0, axis)), ends - begins


def _luma(frames: np.ndarray) -> np.ndarray:
    """Of RGB of shape (frames, height, width, 3), without it. No product of matrices, for which NumPy has threads."""
    return np.einsum("...c,c->...", frames, np.asarray(LUMA, np.float32))


def _sharpness(luma: np.ndarray) -> float:
    if min(luma.shape[1:]) < 3:
        return 0.0
    neighbours = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    edges = 255 * (neighbours - 4 * luma[:, 1:-1, 1:-1])
    return float(edges.var(axis=(1, 2)).mean())


def _motion(luma: np.ndarray) -> float:
    """Mean displacement of a block from one frame to the next, in shorter sides."""
    height, width = luma.shape[1:]
    rows, columns = height // BLOCK, width // BLOCK
    if len(luma) < 2 or not rows or not columns:
        return 0.0
    before = luma[:-1, : rows * BLOCK, : columns * BLOCK]
    after = np.pad(luma[1:], [(0, 0), (REACH, REACH), (REACH, REACH)], mode="edge")
    near = range(-REACH, REACH + 1)
    shifts = [(y, x) for y in near for x in near if y * y + x * x <= REACH**2]
    lengths = np.linalg.norm(shifts, axis=1)
    costs = []
    for (y, x), length in zip(shifts, lengths, strict=True):
        moved = after[:, REACH + y :, REACH + x :][:, : rows * BLOCK, : columns * BLOCK]
        of_rows = np.abs(before - moved).reshape(-1, rows, BLOCK, columns * BLOCK).sum(axis=2)
        of_blocks = of_rows.reshape(-1, rows, columns, BLOCK).sum(axis=3)
        costs.append(of_blocks / BLOCK**2 + STANDSTILL * length)
    best = np.argmin(costs, axis=0)
    return float(lengths[best].mean() / min(height, width))


def _diversity(frames: np.ndarray) -> float:
    """Of RGB of shape (frames, height, width, 3)."""
    count = len(frames)
    if count < 2:
        return 0.0
    levels = np.minimum((COLOURS * frames).astype(int), COLOURS - 1)
    colours = np.ravel_multi_index(tuple(np.moveaxis(levels, -1, 0)), (COLOURS,) * 3).reshape(count, -1)
    histograms = np.stack([np.bincount(frame, minlength=COLOURS**3) for frame in colours]) / colours.shape[1]
    shared = np.minimum(histograms[:, None], histograms).sum(axis=-1)
    return max(0.0, 1 - float(shared[np.triu_indices(count, k=1)].mean()))
