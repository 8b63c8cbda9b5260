import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import environment

from vjepa_mlflow import Recipe, UserError, extract, train

CLIPS = 2 * (3 * 5 + 2 + 2)
"""Two classes, three epochs of five training videos, two for validation, two for the test."""


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def recipe(small_data: Path) -> Recipe:
    return Recipe(data=str(small_data), model="tiny", epochs=3, learning_rate=1e-3)


def stored(cache: Path) -> dict[str, bytes]:
    return {str(file.relative_to(cache)): file.read_bytes() for file in (cache / "features").rglob("*.safetensors")}


def test_it_stores_what_a_run_reads_and_nothing_else(tracking: str, own_cache: Path, recipe: Recipe) -> None:
    result = extract(recipe)
    assert (result.clips, result.present, result.encoded) == (CLIPS, 0, CLIPS)
    before = stored(own_cache)
    assert len(before) == CLIPS
    train(recipe)
    assert stored(own_cache) == before
    again = extract(recipe)
    assert (again.clips, again.present, again.encoded) == (CLIPS, CLIPS, 0)


def test_it_goes_on_where_it_stopped(own_cache: Path, recipe: Recipe) -> None:
    extract(recipe)
    before = stored(own_cache)
    for name in list(before)[::3]:
        (own_cache / name).unlink()
    assert extract(recipe).encoded == len(list(before)[::3])
    assert stored(own_cache) == before
    assert extract(replace(recipe, epochs=4)).encoded == 10
    assert extract(replace(recipe, epochs=9, views=2)).encoded == 0


def launch(*launcher: str, recipe: Recipe, cache: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    arguments = ["-m", "vjepa_mlflow", "extract", "--data", recipe.data, "--model", "tiny", "--epochs", "3"]
    return subprocess.run(
        [sys.executable, *launcher, *arguments],
        env=environment(VJEPA_MLFLOW_CACHE=str(cache), OMP_NUM_THREADS="1", **changes),
        capture_output=True,
        text=True,
    )


def test_torchruns_ranks_share_it_out_and_a_rank_that_died_is_made_good(
    own_cache: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert extract(recipe).encoded == CLIPS // 2  # the other one died
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    done = launch("-m", "torch.distributed.run", "--nproc-per-node", "2", recipe=recipe, cache=own_cache)
    assert done.returncode == 0, done.stderr
    told = sorted(re.findall(r"(\d+) clips: (\d+) were there, (\d+) encoded.*, 0 without room", done.stdout))
    half = str(CLIPS // 2)
    assert told == [(half, "0", half), (half, half, "0")]
    shared = stored(own_cache)
    monkeypatch.setenv("VJEPA_MLFLOW_CACHE", str(tmp_path / "alone"))
    extract(recipe)
    assert stored(tmp_path / "alone") == shared


def test_copies_of_a_file_are_encoded_once(own_cache: Path, recipe: Recipe, tmp_path: Path) -> None:
    data = Path(shutil.copytree(recipe.data, tmp_path / "data"))
    shutil.copy(data / "train/left_clockwise/0.mp4", data / "train/left_clockwise/copy.mp4")
    extract(replace(recipe, data=str(data)))
    assert len(stored(own_cache)) == CLIPS


def test_a_bad_video_stops_it_before_anything_is_encoded(own_cache: Path, recipe: Recipe, tmp_path: Path) -> None:
    data = Path(shutil.copytree(recipe.data, tmp_path / "data"))
    (data / "val/left_clockwise/bad.mp4").write_bytes(b"no video")
    bad = replace(recipe, data=str(data))
    with pytest.raises(UserError, match=r"1 of 19 videos cannot be used, the first is val/left_clockwise/bad\.mp4"):
        extract(bad)
    assert stored(own_cache) == {}
    assert extract(replace(bad, bad_videos="skip")).encoded == CLIPS


def test_a_budget_is_spent_first_on_what_every_epoch_reads(
    tracking: str, own_cache: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    result = extract(replace(recipe, cache_budget=7.5 * 128 * 144 * 4 / 2**30))
    assert (result.clips, result.present, result.encoded) == (CLIPS, 0, 7)
    assert len(stored(own_cache)) == 7
    assert "The cache is full" in capsys.readouterr().err
    val_and_test = 8
    missing = extract(replace(recipe, epochs=1)).encoded
    assert missing == val_and_test - 7 + 10
