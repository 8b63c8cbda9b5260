"""The demo set: small real MP4 files of classes that only motion can tell apart.

A textured figure slides one way and turns about itself, clockwise or counterclockwise; a class is both together. No
single frame shows it, see `drawing`, and the test videos have patterns that training never saw.
"""

from io import BytesIO
from pathlib import Path

import av
import numpy as np
import torch

from vjepa_mlflow.cache import build_once
from vjepa_mlflow.data.drawing import Motion, Style, draw_films, expose
from vjepa_mlflow.iteration import map_ahead, progress

VERSION = 2
"""Changes with what is drawn, here or in `drawing` and `textures`: no cache keeps an older set by the same name."""

CLIPS_PER_CLASS = {"train": 72, "val": 8, "test": 12}
FRAMES = 40
FRAMES_PER_SECOND = 16
STRIDE = 2
"""Frames of a video from one frame of a clip to the next: the recipe's stride shrinks to it in videos this short."""
SIZE = 128
"""Height and width in pixels."""

DIRECTIONS = {"down": (0, 1), "left": (-1, 0), "right": (1, 0), "up": (0, -1)}
TURNS = {"clockwise": 1, "counterclockwise": -1}
MOTIONS = {
    f"{direction}_{turn}": Motion(*slide, clockwise)
    for direction, slide in DIRECTIONS.items()
    for turn, clockwise in TURNS.items()
}

SEEN = Style(textures=("clouds", "mosaic", "waves", "net"))
UNSEEN = Style(textures=("checks", "dots", "rings"))
STYLES = {"train": SEEN, "val": SEEN, "test": UNSEEN}


def folder() -> Path:
    """The demo set as split/class folders, drawn on first use into the cache."""
    return build_once(f"demo-{VERSION}", _draw_set)


def draw_clip(motion: str, *, seed: int, split: str = "train") -> bytes:
    """Draws one clip of a class of the demo set.

    Args:
        motion: one of `MOTIONS`.
        seed: decides figure, patterns, colours, size, place and speed.
        split: one of `STYLES`, which decides between what patterns.

    Returns:
        An MP4 file with H.264 video, 128x128 pixels, 40 frames.
    """
    films = draw_films(
        torch.tensor([MOTIONS[motion]]), STYLES[split], size=SIZE, generator=torch.Generator().manual_seed(seed)
    )
    (frames,) = expose(films, torch.arange(FRAMES) / STRIDE)
    return _encode((frames * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy())


def _draw_set(root: Path) -> None:
    clips = [
        (root / split / motion / f"{number:03}.mp4", motion, split)
        for split, count in CLIPS_PER_CLASS.items()
        for motion in MOTIONS
        for number in range(count)
    ]

    def draw(clip: tuple[int, tuple[Path, str, str]]) -> None:
        seed, (path, motion, split) = clip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw_clip(motion, seed=seed, split=split))

    for _ in progress(map_ahead(draw, enumerate(clips)), total=len(clips), description="Drawing the demo", unit="clip"):
        pass


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
