import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vjepa_mlflow import Recipe
from vjepa_mlflow.data import Sample, VideoDataset
from vjepa_mlflow.stages.pace import cache_pace, known_pace

EPOCHS = [{"clips_per_second": pace} for pace in (10.0, 40.0, 40.0, 900.0)]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path))
    return Recipe(data="videos", model="tiny", epochs=4, views=3)


def sets_of(recipe: Recipe, count: int, *, val: int = 0, encoded: int, seconds: float = 7.0) -> Any:
    samples = [Sample(Path(f"{index}.mp4"), f"{index}.mp4", "a") for index in range(count + val)]
    dataset = VideoDataset(["a"], {"train": samples[val:], "val": samples[:val], "test": []}, [])
    prepared = SimpleNamespace(recipe=recipe, dataset=dataset)
    return SimpleNamespace(prepared=prepared, source=SimpleNamespace(encoded=encoded), seconds=seconds)


def test_the_pace_is_that_of_encoding_and_of_all_epochs_that_it_was_for(recipe: Recipe) -> None:
    cache_pace(sets_of(recipe, 20, val=8, encoded=68), EPOCHS)
    pace = known_pace(recipe)
    assert pace is not None
    assert math.isclose(3 * 20 / pace, 7 + 20 / 10 + 20 / 40 + 20 / 40)


@pytest.mark.parametrize(("videos", "val", "encoded"), [(20, 0, 40), (5, 0, 15), (20, 60, 60)])
def test_a_training_that_encoded_little_has_none(recipe: Recipe, videos: int, val: int, encoded: int) -> None:
    cache_pace(sets_of(recipe, videos, val=val, encoded=encoded), EPOCHS)
    assert known_pace(recipe) is None
