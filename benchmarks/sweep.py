"""What a sweep costs: a run by itself, then sweeps of many trials, each with nothing encoded at the start.

    python -m benchmarks.sweep --data FOLDER --model random-vitl --precision bf16 --workers 1 2 --json sweep.json

Whole commands are timed, from the start of Python to the logged model.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

from benchmarks import common
from vjepa_mlflow.model import choose_device

SPACE = Path(__file__).parent.parent / "sweeps" / "baseline.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--model", default="tiny", help=f"a checkpoint, or {common.RANDOM_VITL}")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--json")
    options = parser.parse_args()

    model = common.random_vitl().folder if options.model == common.RANDOM_VITL else options.model
    recipe = ["--data", options.data, "--model", str(model), "--precision", options.precision]
    recipe += ["--epochs", str(options.epochs)]
    cold, _ = measure(["train", *recipe])
    print(f"one run by itself: {cold:.1f} s", flush=True)
    sweeps = []
    for workers in options.workers:
        command = ["sweep", str(SPACE), *recipe, "--trials", str(options.trials), "--workers", str(workers)]
        seconds, pace = measure(command)
        sweeps.append({"workers": workers, "seconds": seconds, "trials_per_minute": pace})
        print(
            f"{options.trials} trials, {workers} workers: {seconds:.1f} s, {cold * options.trials / seconds:.1f} times "
            f"faster than as many runs; {pace:.1f} trials a minute once encoded",
            flush=True,
        )
    asked = {name: value for name, value in vars(options).items() if name not in ("workers", "json")}
    machine = common.machine(choose_device("auto"))
    common.write_json(options.json, {"machine": machine, **asked, "run_seconds": cold, "sweeps": sweeps})


def measure(arguments: list[str]) -> tuple[float, float]:
    """Runs a command with an empty cache of its own. Returns its seconds, and its trials a minute if it has any."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "VJEPA_MLFLOW_CACHE": f"{folder}/cache",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        }
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "vjepa_mlflow", *arguments], env=environment, stdout=subprocess.DEVNULL, check=True
        )
        return time.perf_counter() - started, _pace(f"sqlite:///{folder}/optuna.db") if "sweep" in arguments else 0.0


def _pace(storage: str) -> float:
    """Trials a minute from the end of the first to the end of the last."""
    name = next(name for name in optuna.get_all_study_names(storage) if ":" not in name)
    ends = sorted(trial.datetime_complete for trial in optuna.load_study(study_name=name, storage=storage).trials)
    return 60 * (len(ends) - 1) / (ends[-1] - ends[0]).total_seconds()


if __name__ == "__main__":
    main()
