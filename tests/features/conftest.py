from dataclasses import replace
from pathlib import Path

import pytest
from transformers import VJEPA2ForVideoClassification

from vjepa_mlflow.data import VideoDataset, make_dataset, read_training_data
from vjepa_mlflow.model import load_classifier, locate
from vjepa_mlflow.video import Sampling, inspect_videos


@pytest.fixture(scope="session")
def dataset(small_data: Path) -> VideoDataset:
    samples = read_training_data(str(small_data)).samples
    inspections = inspect_videos([sample.path for sample in samples], Sampling(16, 4))
    return make_dataset(
        "small",
        [replace(sample, digest=found.finding.digest) for sample, found in zip(samples, inspections, strict=True)],
        seed=0,
    )


@pytest.fixture(scope="session")
def model(dataset: VideoDataset) -> VJEPA2ForVideoClassification:
    return load_classifier(locate("tiny"), dataset.labels, seed=0)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, so that what one test stores no other test finds."""
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
