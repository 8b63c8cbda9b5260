"""The demo set: small real MP4 files of classes that only motion can tell apart.

A textured figure slides one way and turns about itself, clockwise or counterclockwise; a class is both together. No
single frame shows it, see `drawing`, and the test videos have patterns that training never saw.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vjepa_mlflow.data.data_source import DataSource
from vjepa_mlflow.data.folders import read_folder
from vjepa_mlflow.data.motions import Motion, Style
from vjepa_mlflow.data.samples import Listing, few
from vjepa_mlflow.errors import UserError, expected, one_line
from vjepa_mlflow.files.cache import cache_folder, write_atomically
from vjepa_mlflow.files.cached import cache_bytes, cached_bytes
from vjepa_mlflow.files.digest import sha256_of
from vjepa_mlflow.files.reading import read_bounded
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.runtime.iteration import map_ahead, progress

logger = get_logger(__name__)

if TYPE_CHECKING:
    import numpy as np

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

DEMO = "demo"
"""What the user calls it."""

LARGEST_CLIP = 1 << 20
"""Bytes: twenty times as many as one has."""


class _Clip(NamedTuple):
    """What a file of the set is drawn from, and the SHA-256 of its content; empty until it has been drawn."""

    motion: str
    split: str
    seed: int
    digest: str = ""


class DemoSet(DataSource):
    """The demo set, which goes by its name."""

    @classmethod
    def named(cls, data: str) -> DemoSet | None:
        return cls(place()) if data == DEMO else None

    def read(self) -> Listing:
        """Draws what is missing of it, first."""
        return read_folder(folder())


def place() -> Path:
    """Where the demo set is, or will be once it is drawn."""
    return cache_folder() / f"demo-{VERSION}"


def folder() -> Path:
    """The demo set as split/class folders, drawn on first use into the cache; what has changed of it is drawn again.

    Raises:
        UserError: there is no place for it.
    """
    root = place()
    file = root.with_name(f"{root.name}-files")  # not among the set's files
    clips = _read_clips(file) or _all_clips()
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda name: _digest(root / name), clips))
    amiss = {name: clip for (name, clip), digest in zip(clips.items(), digests, strict=True) if clip.digest != digest}
    if amiss:
        drawn = _draw(root, amiss)
        cache_bytes(file, json.dumps(clips | drawn).encode(), within=file.parent)
        changed = [name for name, clip in amiss.items() if clip.digest]
        if changed:
            count = f"{len(changed)} files"
            logger.warning(f"{root}: {count} were missing or changed, and were drawn again: {few(changed)}")
    return root


def _read_clips(file: Path) -> dict[str, _Clip]:
    """What was drawn, by the names of the files; nothing where that is not known."""
    content = cached_bytes(file)
    return {} if content is None else {name: _Clip(*values) for name, values in json.loads(content).items()}


def _all_clips() -> dict[str, _Clip]:
    names = [
        (f"{split}/{motion}/{number:03}.mp4", motion, split)
        for split, count in CLIPS_PER_CLASS.items()
        for motion in MOTIONS
        for number in range(count)
    ]
    return {name: _Clip(motion, split, seed) for seed, (name, motion, split) in enumerate(names)}


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(read_bounded(path, at_most=LARGEST_CLIP))
    except (OSError, ValueError):
        return None


def draw_clip(motion: str, *, seed: int, split: str = "train") -> bytes:
    """Draws one clip of a class of the demo set.

    Args:
        motion: one of `MOTIONS`.
        seed: decides figure, patterns, colours, size, place and speed.
        split: one of `STYLES`, which decides between what patterns.

    Returns:
        An MP4 file with H.264 video, 128x128 pixels, 40 frames.
    """
    import torch

    from vjepa_mlflow.data.drawing import draw_films, expose

    films = draw_films(
        torch.tensor([MOTIONS[motion]]), STYLES[split], size=SIZE, generator=torch.Generator().manual_seed(seed)
    )
    (frames,) = expose(films, torch.arange(FRAMES) / STRIDE)
    return _encode((frames * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy())


def _draw(root: Path, clips: dict[str, _Clip]) -> dict[str, _Clip]:
    """Draws files of the set, each of which appears whole, and returns what they are now."""

    def draw(named: tuple[str, _Clip]) -> tuple[str, _Clip]:
        name, clip = named
        content = draw_clip(clip.motion, seed=clip.seed, split=clip.split)
        digest = sha256_of(content)
        if _digest(root / name) != digest:
            write_atomically(root / name, content, within=root.parent)
        return name, clip._replace(digest=digest)

    drawn = map_ahead(draw, clips.items())
    try:
        return dict(progress(drawn, total=len(clips), description="Drawing the demo", unit="clip"))
    except OSError as error:
        raise UserError(
            f"{root}: the demo cannot be drawn there ({one_line(error)}): expected {expected(error)}, and nothing else "
            f"in the place of its files; VJEPA_MLFLOW_CACHE names another folder"
        ) from error


def _encode(frames: np.ndarray) -> bytes:
    import av

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
