"""Views: how a clip is taken from its video and from its frames."""

from dataclasses import dataclass

import numpy as np


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
    random = np.random.default_rng([seed, number, int(sample, 16)])
    position, crop_y, crop_x, coin = random.random(4)
    return View(float(position), float(crop_y), float(crop_x), flip=horizontal_flip and coin < 0.5)
