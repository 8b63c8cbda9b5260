"""How figures move, and between what they are drawn: values alone, since a drawing that is there needs no PyTorch."""

import math
from collections.abc import Sequence
from typing import NamedTuple

Range = tuple[float, float]
"""From the least to the most."""


class Motion(NamedTuple):
    """How something moves: signs, or shares of a film's own speeds."""

    right: float = 0.0
    down: float = 0.0
    clockwise: float = 0.0
    growing: float = 0.0
    returning: float = 0.0
    """1 where it goes back half-way through."""
    camera: float = 0.0
    """1 where the whole picture moves so."""


class Style(NamedTuple):
    """Between what a film is drawn; ratios are spread evenly, not differences.

    Speeds are those from one frame of a clip to the next.
    """

    textures: Sequence[str]
    """Names out of `TEXTURES`."""
    speed: Range = (0.022, 0.048)
    """Of sliding, in picture widths."""
    spin: Range = (math.radians(8), math.radians(18))
    """Of turning, in radians."""
    growth: Range = (0.03, 0.06)
    """Of the radius's logarithm."""
    radius: Range = (0.15, 0.28)
    """Of a figure at its smallest, in picture widths; at its largest it has twice that."""
    contrast: float = 1.0
    """Of the background, from 0 (plain) to 1."""
