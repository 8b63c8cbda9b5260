"""Calls each public function and looks what it leaves in the process: nothing, the second time.

    python -m tools.leftovers

The first call lets libraries import what they need and open what they keep. What is compared is what a process shares
with all that runs in it: processes, threads, descriptors, temporary files, the environment, and settings of Python,
PyTorch, Optuna and MLflow. Left out is what MLflow keeps or uses: connections to its database, one for each thread that
needed one at the same time, and Python's own random numbers, from which it takes the names of its runs.
"""

import gc
import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
import psutil

STORE = "mlflow.db"
PLAN = """
metric: val_accuracy
direction: maximize
trials: 2
sampler: {name: random}
pruner: {name: none}
space:
  learning_rate: {low: 1.0e-6, high: 0.01, log: true}
"""


def state() -> dict[str, Any]:
    """What this process shares with all that runs in it, by the name of that."""
    import mlflow
    import numpy as np
    import torch

    gc.collect()
    return {
        "processes": [process.name() for process in psutil.Process().children(recursive=True)],
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "descriptors": Counter(name for name in _descriptors() if not name.endswith(STORE)),
        "temporary files": sorted(os.listdir(tempfile.gettempdir())),  # noqa: PTH208
        "environment": {name: value for name, value in os.environ.items() if "TELEMETRY" not in name},
        "folder": Path.cwd(),
        "__main__": sys.modules["__main__"],
        "module path": list(sys.path),
        "outputs": (sys.stdout, sys.stderr, sys.excepthook),
        "warnings": [str(one) for one in warnings.filters],
        "levels of loggers": {name: logging.getLogger(name).level for name in ("", "mlflow", "optuna", "transformers")},
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)],
        "blocked signals": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "folder for temporary files": tempfile.tempdir,
        "precision": (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32),
        "threads that compute": torch.get_num_threads(),
        "random numbers": (torch.get_rng_state().tolist(), str(np.random.get_state())),
        "gradients": torch.is_grad_enabled(),
        "tracking": (mlflow.get_tracking_uri(), mlflow.active_run()),
    }


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            yield os.readlink(f"/proc/self/fd/{name}").partition(":[")[0]  # noqa: PTH115
        except OSError:  # the one that reads the folder
            continue


def functions(folder: Path) -> dict[str, Callable[[], object]]:
    """The public functions by name, on a few small videos, in an order in which each finds what it needs."""
    import mlflow

    import vjepa_mlflow as ours
    from vjepa_mlflow.data import draw_clip

    for number, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2):
        for motion in ("left_clockwise", "right_clockwise"):
            path = folder / "data" / split / motion / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(draw_clip(motion, seed=number))
    (folder / "plan.yaml").write_text(PLAN)
    name, data = "leftovers", folder / "data"
    model = f"models:/{name}/1"
    recipe = ours.Recipe(data=str(data), model="tiny", device="cpu", epochs=2, registered_model_name=name)
    return {
        "check": lambda: ours.check(recipe),
        "extract": lambda: ours.extract(recipe),
        "train": lambda: ours.train(recipe),
        "run_sweep": lambda: ours.run_sweep(folder / "plan.yaml", recipe, workers=2, study=os.urandom(4).hex()),
        "evaluate": lambda: ours.evaluate(model, recipe),
        "predict": lambda: list(ours.predict(model, [data / "test"])),
        "predict, left in the middle": lambda: next(ours.predict(model, [data])),
        "predict_to_file": lambda: ours.predict_to_file(model, [data / "test"], folder / f"{os.urandom(4).hex()}.csv"),
        "promote": lambda: ours.promote(model, alias="champion"),
        "load_model": lambda: ours.load_model(model) and None,
        "from_video_folder": lambda: mlflow.data.from_video_folder(str(data)) and None,  # type: ignore[attr-defined]
    }


def leftovers(function: Callable[[], object], log: Path) -> list[str]:
    """What a call leaves, the second time."""
    for _ in range(2):
        before = state()
        with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
            function()
    after = state()
    return [f"{name}: {before[name]} before, {after[name]} after" for name in before if before[name] != after[name]]


@click.command()
def main() -> None:
    """Calls each public function twice, and says what it leaves."""
    import mlflow

    amiss = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        os.environ["TMPDIR"], tempfile.tempdir = str(folder / "tmp"), None
        os.environ["VJEPA_MLFLOW_CACHE"] = str(folder / "cache")
        os.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/{STORE}")
        for called, function in functions(folder).items():
            found = leftovers(function, folder / "log")
            print(f"{called}: {'; '.join(found) or 'nothing is left'}", flush=True)
            amiss += bool(found)
        os.chdir("/")
    sys.exit(amiss > 0)


if __name__ == "__main__":
    main()
