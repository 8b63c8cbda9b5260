"""What is shown while pretraining: films that get harder.

From plain backgrounds, where the loss leaves chance within some hundred steps, to patterns as strong as the figure's
own, where in an earlier trial it had not after three thousand; and from the demo's speeds and sizes to slower motions
and to smaller and larger figures.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vjepa_mlflow.data.drawing import draw_films, expose
from vjepa_mlflow.data.motions import Motion, Range, Style
from vjepa_mlflow.model import Preprocessing

TEXTURES = ("plain", "clouds", "gradient", "mosaic", "net", "stripes", "waves")
"""The demo's test videos have others."""

FULL_DIFFICULTY = 0.5
"""The share of the steps after which films are as hard as they get."""

NOISE = 0.05
"""Most standard deviation of the noise, where values are in 0..1."""


def style(progress: float) -> Style:
    """Between what films are drawn when this share of the steps is done."""
    difficulty = min(1.0, progress / FULL_DIFFICULTY)

    def widening(first: Range, last: Range) -> Range:
        low, high = (a ** (1 - difficulty) * b**difficulty for a, b in zip(first, last, strict=True))
        return low, high

    return Style(
        TEXTURES,
        speed=widening((0.02, 0.05), (0.006, 0.05)),
        spin=widening((math.radians(7), math.radians(20)), (math.radians(3), math.radians(20))),
        growth=widening((0.03, 0.06), (0.01, 0.06)),
        radius=widening((0.13, 0.3), (0.1, 0.45)),
        contrast=min(1.0, 0.02 + difficulty),
    )


class Course:
    """Draws batches as a model's preprocessing would make them.

    Args:
        motions: the vocabulary, in the order of the labels.
        preprocessing: the model's.
        seed: of everything drawn.
        device: where to draw.
    """

    def __init__(self, motions: list[Motion], preprocessing: Preprocessing, *, seed: int, device: torch.device):
        self._motions = torch.tensor(motions, device=device)
        self._size, self._crop = preprocessing.shortest_edge, preprocessing.crop_size.height
        self._mean, self._deviation = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (preprocessing.image_mean, preprocessing.image_std)
        )
        self._generator = torch.Generator(device).manual_seed(seed)
        self._crops = torch.Generator().manual_seed(seed)
        self._expose: Callable[..., Tensor] = torch.compile(expose) if device.type == "cuda" else expose

    def batches(self, steps: int, *, batch_size: int, frames: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields a batch for each step.

        Yields:
            Pixels of shape (clips, frames, 3, height, width), and labels of shape (clips,).
        """
        times = torch.arange(frames, device=self._motions.device, dtype=torch.float32)
        for step in range(steps):
            labels = torch.randint(
                len(self._motions), (batch_size,), generator=self._generator, device=self._motions.device
            )
            films = draw_films(self._motions[labels], style(step / steps), size=self._size, generator=self._generator)
            yield self._spoil(self._expose(films, times)), labels

    def _spoil(self, shown: Tensor) -> Tensor:
        """Crops a batch somewhere, adds to each film noise of a strength of its own, and normalises."""
        top, left = torch.randint(self._size - self._crop + 1, (2,), generator=self._crops).tolist()
        pixels = shown[..., top : top + self._crop, left : left + self._crop]
        strength = NOISE * torch.rand(len(pixels), 1, 1, 1, 1, generator=self._generator, device=pixels.device)
        noise = torch.randn(pixels.shape, generator=self._generator, device=pixels.device)
        return ((pixels + strength * noise).clamp(0, 1) - self._mean) / self._deviation
