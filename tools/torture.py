"""Kills the main job at random moments, has it go on each time, and compares it with a run that was left alone.

    python -m tools.torture --kills 20
    python -m tools.torture --kills 20 --encoding
    python -m tools.torture --kills 20 --tracking-uri http://127.0.0.1:5000

With `--encoding` each run finds an empty store, and is killed while it fills it.

Each time the job is started with `--resume auto`, as a scheduler would start it. A run that comes to its end before it
is killed often enough is followed by another one. Every run must end FINISHED, with each point of each metric logged
once, with the values and, bit for bit, the head of the run that was left alone.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import mlflow
from mlflow import MlflowClient
from safetensors.torch import load_file
from torch import Tensor

from vjepa_mlflow.data import draw_clip

MOTIONS = ("left_clockwise", "right_clockwise")
VIDEOS = {"train": 8, "val": 3, "test": 3}
"""Of each motion."""

EPOCHS = 40
TIMES = ("clips_per_second", "duration_seconds")
"""Metrics that are never the same twice."""

POLL = 0.02


@dataclass(frozen=True)
class Outcome:
    """What a run has in the end.

    Attributes:
        status: MLflow's.
        points: of each metric but the times and the system's: steps and values, in the order of the steps.
        repeated: metrics and steps that have more than one point, times included.
        head: the logged model's pooler and classifier.
    """

    status: str
    points: dict[str, list[tuple[int, float]]]
    repeated: list[tuple[str, int]]
    head: dict[str, Tensor]

    def differences(self, other: "Outcome") -> list[str]:
        """What is not as it should be, compared with a run that was left alone."""
        found = [f"status {self.status}"] if self.status != "FINISHED" else []
        found += [f"{name} logged twice at step {step}" for name, step in self.repeated]
        found += [f"{name} differs" for name in other.points if self.points.get(name) != other.points[name]]
        found += [
            f"{name} differs in the head" for name in other.head if not same(self.head.get(name), other.head[name])
        ]
        return found


def same(one: Tensor | None, other: Tensor) -> bool:
    """Whether two tensors have the same bits."""
    return one is not None and one.numpy().tobytes() == other.numpy().tobytes()


def draw_data(folder: Path) -> Path:
    """Draws a few videos in split and class folders."""
    for split, count in VIDEOS.items():
        for motion in MOTIONS:
            (folder / split / motion).mkdir(parents=True)
            for number in range(count):
                seed = sum(map(ord, split)) + number
                (folder / split / motion / f"{number}.mp4").write_bytes(draw_clip(motion, seed=seed))
    return folder


def start_job(folder: Path, data: Path, tracking_uri: str, *options: str) -> subprocess.Popen[bytes]:
    """Starts the main job, on the CPU in fp32, with its words in a log."""
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": tracking_uri,
        "VJEPA_MLFLOW_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "vjepa_mlflow", "train", "--data", str(data), "--model", "tiny", "--device", "cpu"]
    recipe = ["--epochs", str(EPOCHS), "--learning-rate", "3e-4", "--scheduler", "cosine", "--save-steps", "2"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen([*command, *recipe, *options], cwd=folder, env=environment, stdout=log, stderr=log)


def read_outcome(run_id: str) -> Outcome:
    """What MLflow has of a run."""
    client = MlflowClient()
    run = client.get_run(run_id)
    names = [name for name in run.data.metrics if not name.startswith("system/")]
    histories = {name: client.get_metric_history(run_id, name) for name in names}
    counts = Counter((name, point.step) for name, history in histories.items() for point in history)
    (model,) = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    with tempfile.TemporaryDirectory() as folder:
        logged = Path(mlflow.artifacts.download_artifacts(model.model_uri, dst_path=folder))
        weights = {}
        for file in (logged / "checkpoint").glob("*.safetensors"):
            weights |= load_file(file)
    return Outcome(
        status=run.info.status,
        points={
            name: sorted((point.step, point.value) for point in history)
            for name, history in histories.items()
            if name not in TIMES
        },
        repeated=[key for key, count in counts.items() if count > 1],
        head={name: weight for name, weight in weights.items() if not name.startswith("vjepa2.")},
    )


def last_run() -> str:
    """The run that was started last of those that say what they are."""
    runs = mlflow.search_runs(order_by=["attributes.start_time DESC"], output_format="list")
    return next(str(run.info.run_id) for run in runs if "vjepa_mlflow.definition" in run.data.tags)


def in_time(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have passed from now."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def entries(store: Path) -> int:
    """How many clips' features are in a store."""
    return sum(1 for _ in store.rglob("*.safetensors"))


def with_more(store: Path, count: int) -> Callable[[], bool]:
    """Whether a store has so many more entries than now."""
    full = entries(store) + count
    return lambda: entries(store) >= full


def torture(folder: Path, tracking_uri: str, *, kills: int, encoding: bool, seed: int = 0) -> list[str]:
    """Kills the job so many times, and returns what it found amiss.

    Args:
        folder: for everything, new.
        tracking_uri: of an MLflow store that has no such runs yet.
        kills: how many.
        encoding: whether the job is killed while it encodes; if not, whenever.
        seed: of the moments.
    """
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    mlflow.set_tracking_uri(tracking_uri)
    data, store = draw_data(folder / "data"), folder / "cache" / "features"
    begun = time.monotonic()
    alone = start_job(folder, data, tracking_uri)
    if alone.wait() != 0:
        raise RuntimeError((folder / "log").read_text()[-2000:])
    seconds = time.monotonic() - begun
    expected, clips = read_outcome(last_run()), entries(store)
    print(f"Left alone: {seconds:.1f} s, test accuracy {expected.points['test_accuracy'][0][1]:.3f}", flush=True)

    moments = random.Random(seed)
    found: list[str] = []
    done = run = 0
    while done < kills:
        run += 1
        killed = 0
        if encoding:
            shutil.rmtree(store)
        while True:
            job = start_job(folder, data, tracking_uri, "--resume", "auto")
            if encoding:
                is_time = with_more(store, 1 + moments.randrange(clips // 4))
            else:  # features are in the store by now: it takes about so long
                is_time = in_time(moments.uniform(0, 0.5 * seconds))
            while job.poll() is None and not (done < kills and is_time()):
                time.sleep(POLL)
            if job.poll() is not None:
                break
            job.kill()
            job.wait()
            done, killed = done + 1, killed + 1
        if job.returncode != 0:
            raise RuntimeError((folder / "log").read_text()[-2000:])
        amiss = read_outcome(last_run()).differences(expected)
        print(f"Run {run}: killed {killed} times, {', '.join(amiss) or 'as if it had been left alone'}", flush=True)
        found += amiss
    return found


@click.command()
@click.option("--kills", default=20, show_default=True)
@click.option("--encoding", is_flag=True, help="Kill it while it encodes.")
@click.option("--tracking-uri", default="", help="Of an empty MLflow store; empty: SQLite in a temporary folder.")
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
def main(kills: int, encoding: bool, tracking_uri: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri = tracking_uri or f"sqlite:///{folder}/mlflow.db"
        found = torture(folder, uri, kills=kills, encoding=encoding, seed=seed)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
