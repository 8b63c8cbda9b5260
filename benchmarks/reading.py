"""Reads videos of the sizes that people have, beside the model card's loop: files into features, in clips a second.

    python -m benchmarks.reading --model random-vitl --seconds 60 --json benchmarks/results/reading.json

It makes its own videos, of 10 seconds at 30 frames a second, and takes five views of each, as five epochs do. The files
of a kind are links to a few that differ, so that no disk is measured.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import torch
from PIL import Image

from benchmarks import card_loop, common
from vjepa_mlflow.data import Sample
from vjepa_mlflow.features import Clip, Encoder
from vjepa_mlflow.model import LoadedBackbone, matmul_precision, use_device
from vjepa_mlflow.recipe import Recipe
from vjepa_mlflow.runtime.cpus import usable_cpus
from vjepa_mlflow.runtime.iteration import map_ahead
from vjepa_mlflow.video import draw_view
from vjepa_mlflow.video.cached import cache_timeline, file_version
from vjepa_mlflow.video.opening import Source
from vjepa_mlflow.video.timeline import read_timeline

FRAMES, RATE = 300, 30
DIFFERENT = 4
"""Videos of a kind that are made."""

VIEWS = 5
NOISE, GRAIN = 3, 24
"""Values that a camera's noise has, and the grain of what it sees."""

PAN, THINGS = 2, 5
"""Pixels from frame to frame, and things that move before the scene."""

TRIED = 32
"""Videos that are read before the clock is started."""


@dataclass(frozen=True)
class Kind:
    """Videos of one kind."""

    width: int
    height: int
    codec: str
    key_frames: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.codec.removeprefix('lib')}, key frame every {self.key_frames}"


KINDS = {
    "240p": Kind(320, 240, "libx264", 250),
    "720p": Kind(1280, 720, "libx264", 250),
    "1080p": Kind(1920, 1080, "libx264", 250),
    "1080p-keys": Kind(1920, 1080, "libx264", 30),
    "1080p-hevc": Kind(1920, 1080, "libx265", 30),
    "4k": Kind(3840, 2160, "libx264", 30),
    "4k-hevc": Kind(3840, 2160, "libx265", 30),
    "8k": Kind(7680, 4320, "libx265", 30),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["240p", "720p", "1080p", "4k"])
    parser.add_argument("--model", default="tiny", help=f"a checkpoint, or {common.RANDOM_VITL}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--seconds", type=float, default=60, help="for each kind")
    parser.add_argument("--card-seconds", type=float, default=20, help="for each kind; 0: not the card's loop")
    parser.add_argument("--videos", help="a folder that keeps the videos that are made")
    parser.add_argument("--json")
    options = parser.parse_args()

    device = use_device(options.device)
    checkpoint = common.find_checkpoint(options.model)
    model, processor = common.load(checkpoint, ["a", "b"], device)
    results = {"machine": common.machine(device), "model": options.model, "precision": options.precision, "runs": []}
    with tempfile.TemporaryDirectory() as folder, matmul_precision(options.precision):
        backbone = LoadedBackbone(model, checkpoint.preprocessing)
        for name in options.kinds:
            videos = make_videos(Path(options.videos or folder), name)
            run = {"kind": name, "videos": str(KINDS[name])}
            run |= read(backbone, videos, Path(folder) / f"{name}-links", options)
            if options.card_seconds:
                run |= read_as_the_card(model, processor, videos, options.card_seconds)
                run["times_the_card"] = run["clips_per_second"] / run["card_clips_per_second"]
            print(run, flush=True)
            results["runs"].append(run)
            common.write_json(options.json, results)


def make_videos(folder: Path, name: str) -> list[Path]:
    """Makes the different videos of a kind that are not in the folder yet, several at once."""
    folder.mkdir(exist_ok=True, parents=True)

    def video(seed: int) -> Path:
        path = folder / f"{name}-{seed}.mp4"
        if not path.exists():
            make_video(path, KINDS[name], seed)
        return path

    return list(map_ahead(video, range(DIFFERENT)))


def make_video(path: Path, kind: Kind, seed: int) -> None:
    """Things that move before a scene that pans, all of them with fine grain, and a little of a camera's noise."""
    random = np.random.default_rng(seed)
    height, width = kind.height, kind.width
    scene = texture(random, height + FRAMES * PAN, width + FRAMES * PAN)
    things = [texture(random, height // 3, width // 4) for _ in range(THINGS)]
    starts, steps = random.random((THINGS, 2)), random.integers(1, 1 + height // 120, (THINGS, 2))
    noise = random.integers(0, NOISE, (height + 64, width + 64, 1), np.uint8)
    unfinished = path.with_suffix(".part")
    with av.open(str(unfinished), "w", format="mp4") as container:
        options = {"g": str(kind.key_frames), "x265-params": f"keyint={kind.key_frames}:log-level=none"}
        stream = container.add_stream(kind.codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for number in range(FRAMES):
            image = scene[number * PAN :][:height, number * PAN :][:, :width].copy()
            for thing, start, step in zip(things, starts, steps, strict=True):
                room = np.subtract(image.shape[:2], thing.shape[:2])
                top, left = (start * room + number * step).astype(int) % room
                image[top : top + len(thing), left : left + thing.shape[1]] = thing
            top, left = random.integers(0, 64, 2)
            image += noise[top : top + height, left : left + width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    unfinished.rename(path)


def texture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth colours with grain, uint8 of shape (height, width, 3); with the noise they are no more than 255."""
    coarse = random.integers(0, 256 - GRAIN - NOISE, (12, 12, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
    return smooth + random.integers(0, GRAIN, (height, width, 1), np.uint8)


def read(backbone: LoadedBackbone, videos: list[Path], links: Path, options: argparse.Namespace) -> dict[str, object]:
    """Our way, in the steady state: the clips a second between a tenth and nine tenths of all."""
    recipe = Recipe(precision=options.precision, cache="off")
    form = backbone.forms(recipe.precision)[0]
    sampling = recipe.sampling(backbone.architecture.frames_per_clip)
    cache_dir = links.with_suffix(".notes")  # of all videos that were checked there are some
    encoder = Encoder(backbone, form=form, sampling=sampling, precision=recipe.precision, cache_dir=cache_dir)
    tried = encode(encoder, clips_of(videos, links, TRIED, cache_dir))
    count = max(TRIED, round(options.seconds * pace_of(tried) / VIEWS))
    common.reset_peak_memory()
    with usage(encoder.device) as used:
        times = encode(encoder, clips_of(videos, links, count, cache_dir))
    return {
        "clips": len(times),
        "clips_per_second": pace_of(times),
        "gpu_peak_memory_gib": common.peak_memory(),
        **used,
    }


def clips_of(videos: Sequence[Path], links: Path, count: int, cache_dir: Path) -> list[Clip]:
    """Views of so many links to the videos."""
    links.mkdir(exist_ok=True)
    timelines = [read_timeline(Source(video)) for video in videos]
    clips = []
    for number in range(count):
        link = links / f"{number}.mp4"
        if not link.exists():
            link.symlink_to(videos[number % len(videos)].resolve())
            cache_timeline(cache_dir, link, file_version(link), timelines[number % len(videos)])
        sample = Sample(link, link.name, "a", version=file_version(link))
        views = (draw_view(seed=0, sample=link.name, number=view, horizontal_flip=False) for view in range(VIEWS))
        clips += [Clip(sample, view) for view in views]
    return clips


def encode(encoder: Encoder, clips: Sequence[Clip]) -> list[float]:
    """Returns when each clip's features were asked of the GPU."""
    times: list[float] = []
    encoding = encoder.encode(clips)
    while not encoding.is_done:
        taken = encoding.take()
        times += [time.perf_counter()] * len(taken)
    common.synchronize()
    return times


def pace_of(times: Sequence[float]) -> float:
    first, last = len(times) // 10, len(times) * 9 // 10
    return (last - first) / (times[last] - times[first])


def read_as_the_card(model: object, processor: object, videos: Sequence[Path], seconds: float) -> dict[str, object]:
    """The card's loop, with a loader's worker for each CPU: training clips a second, the loaders' start left out."""
    card_loop.WORKERS = usable_cpus()
    random = np.random.default_rng(0)

    def clips(count: int) -> card_loop.Clips:
        chosen = [
            card_loop.Clip(videos[number % len(videos)], number % 2, float(random.random()), (0.5, 0.5))
            for number in range(count)
        ]
        frames = model.config.frames_per_clip  # type: ignore[attr-defined]
        return card_loop.Clips(chosen, processor, num_frames=frames, stride=4)  # type: ignore[arg-type]

    def train(count: int) -> float:
        one = clips(1)
        return common.seconds(
            lambda: card_loop.train(
                model,  # type: ignore[arg-type]
                epochs=[clips(count)],
                val=one,
                test=one,
                learning_rate=1e-5,
                accumulation=4,
            )
        )

    least = 2 * card_loop.WORKERS
    with matmul_precision("fp32"):
        first = train(least)
        more = max(least, round(seconds / first * least))
        return {"card_clips_per_second": more / (train(least + more) - first)}


@contextmanager
def usage(device: torch.device) -> Iterator[dict[str, float | None]]:
    """The GPU's share of busy time, and the peaks of memory, looked at ten times a second; there after the block."""
    found: dict[str, float | None] = {}
    shared, host = [], []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            memory = psutil.virtual_memory()
            shared.append(memory.shared)
            host.append(memory.total - memory.available)

    before = psutil.virtual_memory()
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        with common.gpu_load(device) as loads:
            yield found
    finally:
        ended.set()
        thread.join()
    found["gpu_busy"] = float(np.mean(loads)) if loads else None
    found["shared_memory_gib"] = (max(shared, default=0) - before.shared) / 2**30
    found["host_memory_gib"] = (max(host, default=0) - (before.total - before.available)) / 2**30


if __name__ == "__main__":
    main()
