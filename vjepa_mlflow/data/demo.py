"""The demo set: small real MP4 files of classes that only motion can tell apart.

A textured figure slides over, or turns on, a textured background. It leaves the picture on one side and comes back on
the other, so at any moment its place and angle are spread evenly whatever its class: no single frame shows the class.
"""

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vjepa_mlflow.cache import build_once
from vjepa_mlflow.iteration import map_ahead, progress

VERSION = 1
"""Changes with anything below, so that no cache keeps an older set under the same name."""

CLIPS_PER_CLASS = {"train": 20, "val": 6, "test": 6}
FRAMES = 40
FRAMES_PER_SECOND = 16
SIZE = 128
"""Height and width in pixels."""

# Pixels right, pixels down and degrees clockwise, in units of the clip's own speed.
MOTIONS = {
    "slide_down": (0.0, 1.0, 0.0),
    "slide_left": (-1.0, 0.0, 0.0),
    "slide_right": (1.0, 0.0, 0.0),
    "slide_up": (0.0, -1.0, 0.0),
    "turn_clockwise": (0.0, 0.0, 1.0),
    "turn_counterclockwise": (0.0, 0.0, -1.0),
}

FIGURES: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda x, y: (x.abs() < 0.9) & (y.abs() < 0.4),  # bar
    lambda x, y: (y < 0.7) & (y > 2.2 * x.abs() - 0.9),  # triangle
    lambda x, y: (x.abs() < 0.3) & (y.abs() < 0.9) | (y.abs() < 0.3) & (x > 0) & (x < 0.9),  # flag
    lambda x, y: x**2 + (y / 0.6) ** 2 < 0.8,  # ellipse
]


def folder() -> Path:
    """The demo set as split/class folders, drawn on first use into the cache."""
    return build_once(f"demo-{VERSION}", _draw_set)


def draw_clip(motion: str, *, seed: int) -> bytes:
    """Draws one clip of a class of the demo set.

    Args:
        motion: one of `MOTIONS`.
        seed: decides figure, textures, colours, size, place and speed.

    Returns:
        An MP4 file with H.264 video, 128x128 pixels, 40 frames.
    """
    return _encode(_draw_frames(motion, np.random.default_rng([VERSION, seed])))


def _draw_set(root: Path) -> None:
    clips = [
        (root / split / motion / f"{number:03}.mp4", motion)
        for split, count in CLIPS_PER_CLASS.items()
        for motion in MOTIONS
        for number in range(count)
    ]

    def draw(clip: tuple[int, tuple[Path, str]]) -> None:
        seed, (path, motion) = clip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw_clip(motion, seed=seed))

    for _ in progress(map_ahead(draw, enumerate(clips)), total=len(clips), description="Drawing the demo", unit="clip"):
        pass


def _draw_frames(motion: str, random: np.random.Generator) -> np.ndarray:
    """Returns uint8 frames of shape (FRAMES, SIZE, SIZE, 3)."""
    right, down, clockwise = MOTIONS[motion]
    speed = random.uniform(1.5, 3.0)  # pixels a frame
    turning = math.radians(random.uniform(4.0, 9.0))  # radians a frame
    time = torch.arange(FRAMES, dtype=torch.float32)
    centre_x = random.uniform(0, SIZE) + right * speed * time
    centre_y = random.uniform(0, SIZE) + down * speed * time
    angle = random.uniform(0, 2 * math.pi) + clockwise * turning * time
    x, y = _figure_coordinates(centre_x, centre_y, angle, radius=random.uniform(22, 34))
    inside = FIGURES[random.integers(len(FIGURES))](x, y).unsqueeze(1)
    surface = F.grid_sample(
        _texture(random, cells=4).expand(FRAMES, -1, -1, -1), torch.stack([x, y], dim=-1), align_corners=False
    )
    background = _texture(random, cells=int(random.integers(2, 7))) * random.uniform(0.4, 0.8)
    frames = torch.where(inside, surface, background)
    return (frames * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _figure_coordinates(centre_x: Tensor, centre_y: Tensor, angle: Tensor, *, radius: float) -> tuple[Tensor, Tensor]:
    """Each pixel's place on the figure, in radii from its centre, of shape (frames, SIZE, SIZE)."""
    pixel = torch.arange(SIZE, dtype=torch.float32)
    wrapped_x = (pixel - centre_x[:, None] + SIZE / 2) % SIZE - SIZE / 2
    wrapped_y = (pixel - centre_y[:, None] + SIZE / 2) % SIZE - SIZE / 2
    along, across = wrapped_x[:, None, :] / radius, wrapped_y[:, :, None] / radius
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return cosine * along + sine * across, cosine * across - sine * along


def _texture(random: np.random.Generator, *, cells: int) -> Tensor:
    """A smooth two-coloured random pattern of shape (1, 3, SIZE, SIZE), values in 0..1."""
    pattern = torch.from_numpy(random.random((1, 1, cells, cells), dtype=np.float32))
    pattern = F.interpolate(pattern, size=(SIZE, SIZE), mode="bicubic", align_corners=True).clamp(0, 1)
    colours = torch.from_numpy(random.random((2, 1, 3, 1, 1), dtype=np.float32))
    return colours[0] * pattern + colours[1] * (1 - pattern)


def _encode(frames: np.ndarray) -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        # One thread, so that the same frames give the same bytes.
        stream = container.add_stream(
            "libx264", FRAMES_PER_SECOND, options={"crf": "20", "preset": "veryfast", "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
