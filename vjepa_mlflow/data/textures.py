"""Patterns of two colours, for figures and backgrounds: many at once, on any device."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vjepa_mlflow.data.motions import Range


class Random:
    """Random numbers for a number of pictures, each independent of the others."""

    def __init__(self, pictures: int, generator: torch.Generator):
        self._pictures = pictures
        self._generator = generator
        self.device = generator.device

    def stack(self, *shape: int) -> Tensor:
        """From 0 to 1, of shape (pictures, *shape)."""
        return torch.rand(self._pictures, *shape, generator=self._generator, device=self.device)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Of shape (pictures,)."""
        return low + (high - low) * self.stack()

    def ratio(self, bounds: Range) -> Tensor:
        """From the first bound to the second, ratios spread evenly; of shape (pictures,)."""
        return bounds[0] * (bounds[1] / bounds[0]) ** self.uniform()

    def choice(self, count: int) -> Tensor:
        """Whole numbers less than `count`, of shape (pictures,)."""
        return torch.randint(count, (self._pictures,), generator=self._generator, device=self.device)


class Canvas(NamedTuple):
    """Where a pattern is asked for: turned, shifted and scaled coordinates of shape (pictures, size, size)."""

    x: Tensor
    y: Tensor
    random: Random


def paint(textures: Sequence[str], size: int, random: Random, *, cycles: Range) -> Tensor:
    """Paints pictures, each with one of some textures in two random colours.

    Args:
        textures: names out of `TEXTURES`.
        size: height and width in pixels.
        random: decides everything else.
        cycles: how often a pattern may repeat from side to side.

    Returns:
        Values in 0..1, of shape (pictures, 3, size, size).
    """
    repeats, angle = random.uniform(*cycles), random.uniform(0, math.pi)
    pixel = pixel_centres(size, random.device) - 0.5
    x, y = turn(pixel[None, None, :], pixel[None, :, None], angle, repeats)
    shift_x, shift_y = random.stack(2, 1, 1).unbind(1)
    canvas = Canvas(x + shift_x, y + shift_y, random)
    patterns = torch.stack([TEXTURES[name](canvas) for name in textures])
    picture = torch.arange(len(repeats), device=random.device)
    chosen = patterns[random.choice(len(textures)), picture][:, None]
    first, second = random.stack(2, 3, 1, 1).unbind(1)
    return first * chosen + second * (1 - chosen)


def pixel_centres(size: int, device: torch.device) -> Tensor:
    """Where so many pixels in a row have their middles, from 0 to 1."""
    return (torch.arange(size, device=device) + 0.5) / size


def turn(x: Tensor, y: Tensor, angle: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates as one sees them who is turned clockwise by an angle, times a scale, over two last dimensions."""
    cosine, sine = (scale * angle.cos())[..., None, None], (scale * angle.sin())[..., None, None]
    return cosine * x + sine * y, cosine * y - sine * x


def _clouds(at: Canvas) -> Tensor:
    cells = at.random.stack(1, 5, 5)
    return F.interpolate(cells, size=at.x.shape[-2:], mode="bicubic", align_corners=True)[:, 0].clamp(0, 1)


def _mosaic(at: Canvas) -> Tensor:
    """Cells, each of what is nearest to one of some random points."""
    right, down, shade = at.random.stack(3, 16).unbind(1)
    pixel = pixel_centres(at.x.shape[-1], at.x.device)
    across, along = pixel[None, :, None, None] - right[:, None, None], pixel[None, None, :, None] - down[:, None, None]
    return shade.gather(1, (across**2 + along**2).argmin(-1).flatten(1)).view_as(at.x)


TEXTURES: dict[str, Callable[[Canvas], Tensor]] = {
    "plain": lambda at: torch.ones_like(at.x),
    "clouds": _clouds,
    "mosaic": _mosaic,
    "waves": lambda at: (2 * math.pi * at.x).sin() / 2 + 0.5,
    "gradient": lambda at: (at.y / 2 + 0.5).clamp(0, 1),
    "net": lambda at: (2 * math.pi * at.x).sin() * (2 * math.pi * at.y).sin() / 2 + 0.5,
    "stripes": lambda at: (at.x % 1 < 0.5).float(),
    "checks": lambda at: ((at.x % 1 < 0.5) ^ (at.y % 1 < 0.5)).float(),
    "dots": lambda at: ((at.x % 1 - 0.5) ** 2 + (at.y % 1 - 0.5) ** 2 < 0.1).float(),
    "rings": lambda at: ((at.x**2 + at.y**2).sqrt() * 2 % 1 < 0.5).float(),
}
"""From coordinates to values in 0..1, of shape (pictures, size, size)."""
