from itertools import product
from pathlib import Path

import torch
from helpers import write_video

from vjepa_mlflow import Recipe
from vjepa_mlflow.data import Sample
from vjepa_mlflow.files.digest import sha256
from vjepa_mlflow.stages.videos import check_videos
from vjepa_mlflow.video import Sampling, property_cache_dir
from vjepa_mlflow.video.properties import Measure


def test_videos_that_the_data_gives_as_test_are_measured_with_the_check(tmp_path: Path) -> None:
    samples = []
    for frames, (split, label) in enumerate(product(("train", "val", "test", None), ("one", "two")), start=53):
        path = write_video(tmp_path / f"{frames}.mp4", frames=frames, size=(96, 80))
        samples.append(Sample(path, path.name, label, split))
    check_videos(samples, Recipe(), num_frames=16, device=torch.device("cpu"))
    measure = Measure(Sampling(16, 4), property_cache_dir("disk"))
    cached = [measure.cached(sha256([sample.path])) is not None for sample in samples]
    assert cached == [sample.split == "test" for sample in samples]
