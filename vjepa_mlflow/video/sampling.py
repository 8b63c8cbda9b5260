"""Which frames make a clip."""

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np

ROUNDED = 0.002
"""Seconds: containers round times to up to 1.67 ms. A frame that comes so much after a moment is shown at it."""


@dataclass(frozen=True)
class Sampling:
    """How the frames of a clip are taken from those of a video.

    Attributes:
        num_frames: of a clip.
        stride: frames of the video from one sampled frame to the next; 0 where that is not what counts.
        frames_per_second: how many frames are sampled of a second, whatever the video's own rate; 0: every `stride`-th.

    Raises:
        ValueError: one of them is out of its range.
    """

    num_frames: int
    stride: int = 4
    frames_per_second: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.frames_per_second < math.inf:
            raise ValueError(f"frames_per_second={self.frames_per_second}: expected a number of frames, or 0")
        if self.frames_per_second:
            object.__setattr__(self, "stride", 0)
        elif not isinstance(self.stride, Integral) or self.stride < 1:
            raise ValueError(f"stride={self.stride}: expected a whole number of at least 1")
        if not isinstance(self.num_frames, Integral) or self.num_frames < 1:
            raise ValueError(f"num_frames={self.num_frames}: expected a whole number of at least 1")

    def __str__(self) -> str:
        return f"stride={self.stride}" if self.stride else f"frames_per_second={self.frames_per_second:g}"

    def clips_in(self, seconds: float, frames_per_second: float) -> float:
        """How many clips, end to end, fill so many seconds of a video of so many frames a second."""
        rate = self.frames_per_second or frames_per_second / self.stride
        return seconds * rate / self.num_frames

    @property
    def name(self) -> str:
        """A word for names of files."""
        return f"{self.num_frames}-{self.stride or f'{self.frames_per_second!r}fps'}"


def choose_frames(seconds: np.ndarray, sampling: Sampling, position: float) -> np.ndarray:
    """Places a clip among the frames of a video.

    By `stride`, a clip is every stride-th frame, by index; one of a video with fewer frames than it has ends in copies
    of the last. By `frames_per_second`, it is what a player shows at moments that far apart, which may be one frame
    twice. A stride or a distance that the video is too short for shrinks until the clip reaches from its first frame to
    its last.

    Args:
        seconds: when each frame is shown, ascending, of shape (frames,), at least one.
        sampling: of the clip.
        position: where among the possible starts, from 0 (first) to 1 (last); 0.5 is the centred clip.

    Returns:
        Indices of frames, ascending, of shape (num_frames,).
    """
    if sampling.frames_per_second:
        return _by_time(seconds, sampling, position)
    return _by_index(len(seconds), sampling, position)


def _by_index(video_frames: int, sampling: Sampling, position: float) -> np.ndarray:
    steps = min(sampling.num_frames, video_frames) - 1
    stride = min(sampling.stride, (video_frames - 1) // steps) if steps else 1
    last_start = video_frames - 1 - steps * stride
    chosen = int(position * last_start) + stride * np.arange(sampling.num_frames)
    return np.minimum(chosen, chosen[steps])


def _by_time(seconds: np.ndarray, sampling: Sampling, position: float) -> np.ndarray:
    seconds = _before_rounding(seconds)
    steps = sampling.num_frames - 1
    step = min(1 / sampling.frames_per_second, seconds[-1] / max(1, steps))
    # A start is one of the frames, not any moment: so rounded times do not change which one it is.
    last_start = _shown_at(seconds, seconds[-1] - steps * step)
    start = seconds[int(position * last_start)]
    return _shown_at(seconds, start + step * np.arange(sampling.num_frames))


def _before_rounding(seconds: np.ndarray) -> np.ndarray:
    """Times as they were before a container rounded them, where they are those of a camera's constant rate.

    Such rates are whole or half numbers, or these times 1000/1001, as in NTSC.
    """
    rate = (len(seconds) - 1) / seconds[-1] if seconds[-1] else 0.0
    near = [candidate for candidate in (round(2 * rate) / 2, round(2.002 * rate) / 2.002) if candidate]
    exact = [np.arange(len(seconds)) / candidate for candidate in near]
    apart = [float(np.abs(times - seconds).max()) for times in exact]
    return exact[int(np.argmin(apart))] if apart and min(apart) <= ROUNDED else seconds


def _shown_at(seconds: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """The indices of the frames that a player shows at some moments, none of them before the first frame."""
    late = min(ROUNDED, seconds[-1] / (2 * len(seconds)))
    return np.maximum(np.searchsorted(seconds, moments + late, side="right") - 1, 0)


def clip_positions(num_clips: int) -> list[float]:
    """Positions of `num_clips` clips spread evenly over a video, each in the middle of its share."""
    return [(index + 0.5) / num_clips for index in range(num_clips)]
