"""Moving figures before a background, drawn: many films at once, on any device.

A figure slides, turns, grows or shrinks, or the camera does so. What leaves the picture on one side comes back on the
other, and what has grown or shrunk to the end of its range jumps back to its beginning, so that at any moment place,
angle and size are spread evenly whatever the motion: no single frame shows it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vjepa_mlflow.data.motions import Style
from vjepa_mlflow.data.textures import Random, paint, pixel_centres, turn

TURNING_POINT = (6.0, 9.0)
"""Of what goes back, in frames of a clip."""

SIZE_RANGE = math.log(2)
"""Between which a figure grows and shrinks, as the logarithm of their ratio."""

_BITMAP = 64
"""Height and width of a figure's own picture."""

FIGURES: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda x, y: (x.abs() < 0.9) & (y.abs() < 0.4),  # bar
    lambda x, y: (y < 0.7) & (y > 2.2 * x.abs() - 0.9),  # triangle
    lambda x, y: (x.abs() < 0.3) & (y.abs() < 0.9) | (y.abs() < 0.3) & (x > 0) & (x < 0.9),  # flag
    lambda x, y: x**2 + (y / 0.6) ** 2 < 0.8,  # ellipse
    lambda x, y: (x.abs() < 0.8) & (y.abs() < 0.8) & ((x < -0.2) | (y > 0.2)),  # corner
]


class Films(NamedTuple):
    """Films that are not exposed yet. Every tensor begins with the dimension of films.

    Motions are speeds right, down, of turning and of the size's logarithm; places are in picture widths.
    """

    figure_motion: Tensor
    """(films, 4)"""
    camera_motion: Tensor
    """(films, 4): what is seen of it, which is the opposite of what the camera does."""
    turning_point: Tensor
    """(films, 1): when all motion is reversed; infinite where it is not."""
    start: Tensor
    """(films, 4): the figure's place right and down, its angle, and its size's logarithm, from 0 to `SIZE_RANGE`."""
    radius: Tensor
    """(films, 1): of the figure at its smallest."""
    figure: Tensor
    """(films, 4, height, width): colours and opacity, in 0..1."""
    background: Tensor
    """(films, 3, height, width), in 0..1."""


def draw_films(motions: Tensor, style: Style, *, size: int, generator: torch.Generator) -> Films:
    """Draws what is seen in films, at random but for their motions.

    Args:
        motions: a `Motion` for each film, of shape (films, 6), on the generator's device.
        style: what to choose from.
        size: height and width of the films in pixels.
        generator: decides everything else.
    """
    random = Random(len(motions), generator)
    signs, returning, camera = motions.split([4, 1, 1], dim=-1)
    speed, spin, growth = random.ratio(style.speed), random.ratio(style.spin), random.ratio(style.growth)
    motion = signs * torch.stack([speed, speed, spin, growth], dim=-1)
    turning_point = torch.where(returning > 0, random.uniform(*TURNING_POINT)[:, None], math.inf)
    place, angle = [random.uniform(), random.uniform()], random.uniform(0, 2 * math.pi)
    start = torch.stack([*place, angle, random.uniform(0, SIZE_RANGE)], dim=-1)
    radius = random.ratio(style.radius)[:, None]
    surface = paint(style.textures, _BITMAP, random, cycles=(0.7, 2.5))
    figure = torch.cat([surface, _outline(random)[:, None]], dim=1)
    background = paint(style.textures, size, random, cycles=(1.0, 4.0))
    mean = background.mean(dim=(-2, -1), keepdim=True)
    background = (mean + style.contrast * (background - mean)) * random.uniform(0.4, 0.8)[:, None, None, None]
    return Films((1 - camera) * motion, camera * motion, turning_point, start, radius, figure, background)


def expose(films: Films, times: Tensor) -> Tensor:
    """Takes the pictures of films.

    Args:
        films: what to take.
        times: of shape (frames,); in a clip the next frame is 1 later.

    Returns:
        Values in 0..1, of shape (films, frames, 3, height, width).
    """
    frames, size = len(times), films.background.shape[-1]
    time = torch.minimum(times, 2 * films.turning_point - times)

    right, down, roll, zoom = films.camera_motion.T[..., None] * time
    pixel = pixel_centres(size, times.device) - 0.5
    x, y = turn(pixel[None, :], pixel[:, None], roll, (-zoom).exp())
    x, y = x - right[..., None, None], y - down[..., None, None]
    background = _sample(films.background, torch.stack([2 * x, 2 * y], dim=-1), frames, padding="reflection")

    right, down, angle, growth = films.start.T[..., None] + films.figure_motion.T[..., None] * time
    along = (x - right[..., None, None] + 0.5) % 1 - 0.5
    across = (y - down[..., None, None] + 0.5) % 1 - 0.5
    places = turn(along, across, angle, 1 / (films.radius * (growth % SIZE_RANGE).exp()))
    figure = _sample(films.figure, torch.stack(places, dim=-1), frames, padding="zeros")
    colour, opacity = figure.split([3, 1], dim=2)
    return opacity * colour + (1 - opacity) * background


def _sample(pictures: Tensor, places: Tensor, frames: int, *, padding: str) -> Tensor:
    """Pictures of shape (films, channels, height, width) at places in -1..1, (films, frames, height, width, 2)."""
    repeated = pictures.repeat_interleave(frames, dim=0)
    sampled = F.grid_sample(repeated, places.flatten(0, 1), padding_mode=padding, align_corners=False)
    return sampled.unflatten(0, (-1, frames))


def _outline(random: Random) -> Tensor:
    """Figures of random kinds, 1 inside and 0 outside, of shape (films, _BITMAP, _BITMAP)."""
    pixel = pixel_centres(_BITMAP, random.device) * 2 - 1
    kinds = torch.stack([inside(pixel[None, :], pixel[:, None]) for inside in FIGURES]).float()
    return kinds[random.choice(len(FIGURES))]
