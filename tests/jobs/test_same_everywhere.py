"""Two processes that have nothing in common but the videos: what they log is the same."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import environment, without_times
from mlflow import MlflowClient

from vjepa_mlflow.data import draw_clip

MOTIONS = {"łęft_clockwise": "left_clockwise", "right_clockwise": "right_clockwise"}


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    """Contents of files by their names; there are no splits."""
    return {
        f"{label}/{number}.mp4": draw_clip(motion, seed=number)
        for label, motion in MOTIONS.items()
        for number in range(5)
    }


def begin(folder: Path, clips: dict[str, bytes], *, hash_seed: str, locale: str, backwards: bool) -> subprocess.Popen:
    """Starts a training in a folder of its own, on videos that were written in this order or the other."""
    for name in sorted(clips, reverse=backwards):
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clips[name])
    command = "train --data data --model tiny --device cpu --epochs 1 --learning-rate 1e-3"
    surroundings = environment(
        PYTHONHASHSEED=hash_seed,
        LC_ALL=locale,
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",  # or Python would not hear of a locale without UTF-8
        OMP_NUM_THREADS="1",
        MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db",
        VJEPA_MLFLOW_CACHE=str(folder / "cache"),
    )
    return subprocess.Popen([sys.executable, "-m", "vjepa_mlflow", *command.split()], cwd=folder, env=surroundings)


def logged(folder: Path) -> tuple[dict[str, str], dict[str, float], dict[str, bytes]]:
    """All parameters, metrics and files, but for those that hold times, or the run's own name."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs(["0"])
    metrics = {name: value for name, value in run.data.metrics.items() if not name.startswith("system/")}
    files = {}
    for path in (folder / "mlruns").rglob("*"):
        name = re.sub(r".*/artifacts/", "", path.as_posix())
        if path.is_file() and not re.search(r"code/|tensorboard|MLmodel|README.md|report.html|curves.png", name):
            files[name] = path.read_bytes()
    return run.data.params, without_times(metrics), files


def test_hash_seed_locale_and_listing_change_nothing(tmp_path: Path, clips: dict[str, bytes]) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    processes = [
        begin(folders[0], clips, hash_seed="0", locale="C.UTF-8", backwards=False),
        begin(folders[1], clips, hash_seed="1", locale="C", backwards=True),
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    (params, metrics, files), (other_params, other_metrics, other_files) = map(logged, folders)
    assert params == other_params
    assert metrics == other_metrics
    assert {name for name in {*files, *other_files} if files.get(name) != other_files.get(name)} == set()
    weights = {f"checkpoint/model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    assert {"split.csv", "labels.json", "checkpoint/seen_videos.json", *weights} <= set(files)
    assert "łęft_clockwise" in json.loads(files["labels.json"]).values()
