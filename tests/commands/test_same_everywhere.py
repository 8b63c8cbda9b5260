"""This process and another one that have nothing in common but the videos: what they log is the same.

The other one also tells what it has imported by its first epoch, for which no process is started just so.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import copy_store, environment, without_times
from mlflow import MlflowClient

from vjepa_mlflow.cli import main
from vjepa_mlflow.data import draw_clip

MOTIONS = {"łęft_clockwise": "left_clockwise", "right_clockwise": "right_clockwise"}

ARGUMENTS = [
    "train",
    "--data",
    "data",
    "--model",
    "tiny",
    "--device",
    "cpu",
    "--epochs",
    "1",
    "--learning-rate",
    "1e-3",
]

TRAINING = """
import sys
import mlflow, torch
from vjepa_mlflow import training
from vjepa_mlflow.cli import main

LATER = {"matplotlib", "scipy.stats", "sklearn", "tensorboard.summary", "torch.utils.tensorboard"}
LATER |= {"vjepa_mlflow.evaluation.figures"}
LATER -= set(sys.modules)  # what MLflow and PyTorch bring by themselves
fit = training.fit

def tell_and_fit(*arguments, **options):
    print("early:", LATER & set(sys.modules))
    return fit(*arguments, **options)

training.fit = tell_and_fit
main()
"""
"""The command, which tells before the first epoch what it has imported of what its end needs."""


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    """Contents of files by their names; there are no splits."""
    return {
        f"{label}/{number}.mp4": draw_clip(motion, seed=number)
        for label, motion in MOTIONS.items()
        for number in range(5)
    }


def write(folder: Path, clips: dict[str, bytes], *, backwards: bool) -> None:
    """Writes the videos into a folder, in this order or the other."""
    for name in sorted(clips, reverse=backwards):
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clips[name])


def begin(folder: Path, uri: str) -> subprocess.Popen:
    """Starts a training in a process of its own, in other surroundings than this one's."""
    surroundings = environment(
        PYTHONHASHSEED="1",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",  # or Python would not hear of a locale without UTF-8
        MLFLOW_TRACKING_URI=uri,
        VJEPA_MLFLOW_CACHE=str(folder / "cache"),
    )
    command = [sys.executable, "-c", TRAINING, *ARGUMENTS]
    return subprocess.Popen(command, cwd=folder, env=surroundings, stdout=subprocess.PIPE, encoding="utf-8")


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


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("other")


@pytest.fixture(scope="module")
def told(module_tracking: Path, empty_store: Path, other_folder: Path, clips: dict[str, bytes]) -> str:
    """What the other process prints, beside which this one trains."""
    write(module_tracking, clips, backwards=False)
    write(other_folder, clips, backwards=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("VJEPA_MLFLOW_CACHE", str(module_tracking / "cache"))
        process = begin(other_folder, copy_store(empty_store, other_folder))
        main(ARGUMENTS)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    return printed


def test_hash_seed_locale_and_listing_change_nothing(told: str, module_tracking: Path, other_folder: Path) -> None:
    (params, metrics, files), (other_params, other_metrics, other_files) = map(logged, (module_tracking, other_folder))
    assert params == other_params
    assert metrics == other_metrics
    assert {name for name in {*files, *other_files} if files.get(name) != other_files.get(name)} == set()
    weights = {f"checkpoint/model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    assert {"split.csv", "labels.json", "checkpoint/seen_videos.json", *weights} <= set(files)
    assert "łęft_clockwise" in json.loads(files["labels.json"]).values()


def test_what_the_end_needs_is_not_imported_before_the_first_epoch(told: str) -> None:
    assert "early: set()" in told
