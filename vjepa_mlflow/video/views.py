"""Views: how a clip is taken from its video and from its frames."""

import hashlib
import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """One clip's sampling and augmentation; the default is the centred clip.

    Attributes:
        position: where the clip lies in the video, from 0 (its start) to 1 (its end).
        crop_y: where the square crop lies in the resized frames, from 0 (top) to 1 (bottom).
        crop_x: the same from left to right.
        flip: whether the frames are mirrored left to right.
    """

    position: float = 0.5
    crop_y: float = 0.5
    crop_x: float = 0.5
    flip: bool = False

    @property
    def has_centred_crop(self) -> bool:
        """Whether the crop is the one that evaluation takes, wherever the clip lies in the video."""
        return self.crop_y == self.crop_x == 0.5


def draw_view(*, seed: int, sample: str, number: int, horizontal_flip: bool) -> View:
    """Draws a training view: a clip anywhere in the video, a crop anywhere in the frame.

    Args:
        seed: the run's seed.
        sample: hexadecimal digest of the video's content.
        number: which of the sample's views.
        horizontal_flip: mirror half of the views.

    Returns:
        The same view whenever the arguments are the same, in any process.
    """
    position, crop_y, crop_x, coin = _uniform(f"{seed} {number} {sample}")
    return View(position, crop_y, crop_x, flip=horizontal_flip and coin < 0.5)


def _uniform(name: str) -> tuple[float, ...]:
    """Four numbers from 0 to 1, drawn by a name: hashed, since NumPy may change its generators and seeds slowly."""
    return tuple(number / 2**64 for number in struct.unpack("<4Q", hashlib.sha256(name.encode()).digest()))
