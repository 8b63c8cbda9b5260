"""What the benchmarks share: the machine, the data, the model and the clock."""

import datetime
import json
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow.data import VideoDataset, make_dataset, read_training_data
from vjepa_mlflow.files.cache import cache_folder
from vjepa_mlflow.files.temporary import temporary_folder_in
from vjepa_mlflow.model import Checkpoint, describe_device, load_classifier, load_processor, locate
from vjepa_mlflow.runtime.cpus import usable_cpus
from vjepa_mlflow.stages.videos import VideoCheck
from vjepa_mlflow.video import Sampling, inspect_videos

RANDOM_VITL = "random-vitl"
LIBRARIES = ("torch", "transformers", "av", "numpy")


def machine(device: torch.device) -> dict[str, str]:
    """What the figures hold for."""
    return {
        "date": datetime.date.today().isoformat(),
        "device": describe_device(device),
        "cpu_cores": str(usable_cpus()),
        "memory_gib": f"{psutil.virtual_memory().total / 2**30:.0f}",
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def find_checkpoint(name: str) -> Checkpoint:
    """A checkpoint by its name, or the ViT-L with random weights, which is made in the cache."""
    return random_vitl() if name == RANDOM_VITL else locate(name)


def random_vitl() -> Checkpoint:
    """The architecture of the card's checkpoint. What weights a model has does not change its speed."""
    folder = cache_folder() / f"{RANDOM_VITL}-1"
    if not folder.is_dir():
        with temporary_folder_in(folder.parent) as unfinished:
            build_random_vitl(unfinished / folder.name)
            (unfinished / folder.name).rename(folder)
    return Checkpoint(RANDOM_VITL, folder, revision="random")


def build_random_vitl(folder: Path) -> None:
    """Saves a ViT-L with random weights and its processor as a `from_pretrained` folder."""
    torch.manual_seed(0)
    config = VJEPA2Config(frames_per_clip=16, crop_size=256, num_labels=174)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = VJEPA2ForVideoClassification(config)
    model.save_pretrained(folder)
    size = {"height": 256, "width": 256}
    VJEPA2VideoProcessor(crop_size=size, size={"shortest_edge": 292}).save_pretrained(folder)


def load(
    checkpoint: Checkpoint, labels: list[str], device: torch.device
) -> tuple[VJEPA2ForVideoClassification, VJEPA2VideoProcessor]:
    return load_classifier(checkpoint, labels, seed=0).to(device), load_processor(checkpoint)


def read_dataset(data: str, *, num_frames: int, stride: int, limit: int | None) -> VideoDataset:
    """The data as a training run splits it; with a limit, so many videos of each split's beginning and end."""
    samples = read_training_data(data).samples
    found = inspect_videos([sample.path for sample in samples], Sampling(num_frames, stride))
    dataset = make_dataset(data, VideoCheck.of(samples, found).usable, seed=0)
    if limit is None:
        return dataset
    splits = {name: split[:: max(1, len(split) // limit)][:limit] for name, split in dataset.splits.items()}
    return VideoDataset(dataset.labels, splits, dataset.drawn)


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes, the GPU's work included."""
    synchronize()
    started = time.perf_counter()
    action()
    synchronize()
    return time.perf_counter() - started


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> float | None:
    """GiB of the GPU's memory that were in use at most since the last reset; None without a GPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None


@contextmanager
def gpu_load(device: torch.device) -> Iterator[list[float]]:
    """Collects, ten times a second, the share of time in which the GPU ran a kernel, as NVML reports it."""
    samples: list[float] = []
    done = threading.Event()

    def watch() -> None:
        time.sleep(1)  # NVML looks back
        while not done.wait(0.1):
            samples.append(torch.cuda.utilization(device) / 100)

    watcher = threading.Thread(target=watch, daemon=True)
    if device.type == "cuda":
        watcher.start()
    try:
        yield samples
    finally:
        done.set()


def write_json(path: str | None, results: Mapping[str, object]) -> None:
    """Writes results where a path is given: a value a line, or an element a line of those that are lists."""
    if path is not None:
        values = ",\n".join(f"  {json.dumps(name)}: {_lines(value)}" for name, value in results.items())
        Path(path).write_text(f"{{\n{values}\n}}\n")


def _lines(value: object) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    elements = ",\n".join(f"    {json.dumps(element)}" for element in value)
    return f"[\n{elements}\n  ]"
