"""What the user waits for: whole commands, from the start of their process to its end.

    python -m benchmarks.command --data FOLDER --clips 137 1000 5000 --json benchmarks/results/command.json

For each number of clips (card) the card's loop as a program of its own, `benchmarks.card_program`; (train)
`vjepa-mlflow train` in a home in which nothing is compiled or stored, then again with other seeds, then again with
everything stored; (sweep) a sweep in that home, without features and with all of them. Beside them is I: how long it
takes to import what any such program imports.

    python -m benchmarks.command --demo --json benchmarks/results/command_demo.json

does so for the README's first command, and for `vjepa-mlflow train` after it.

Every command has what a user gets, checkpoints, report, registered model and a local SQLite database among it. What was
measured before stays in the file, unless it is measured again: so the parts may be measured in several calls. What is
compared belongs in one call, since machines differ; the table names what is not.
"""

import argparse
import json
import os
import shutil
import site
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from mlflow import MlflowClient

from benchmarks import common, report
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.model import choose_device
from vjepa_mlflow.runtime.processes import importable

Result = TypeVar("Result")
Row = dict[str, Any]

REPOSITORY = Path(__file__).parent.parent
SPACE = REPOSITORY / "sweeps" / "baseline.yaml"

IMPORTS = (
    "import torch, torchvision, mlflow.pyfunc; "
    "from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor"
)
"""What I is the time of."""
OTHER_IMPORTS = (
    "import alembic.command, av, git, matplotlib.pyplot, optuna.importance, optuna.storages._rdb.models, pandas; "
    "import sklearn.ensemble, sklearn.metrics; "
    "import mlflow.store.model_registry.sqlalchemy_store, mlflow.store.tracking.sqlalchemy_store; "
    "import tensorboard.compat.proto.event_pb2, torch._inductor.compile_fx"
)
"""What else some command imports."""

LIBRARIES = Path(torch.__file__).parent / "lib", Path(torch.__file__).parent.parent / "nvidia"
"""Folders of what PyTorch computes with: each kernel is read from there when it is first launched."""

PARTS = ("card", "train", "sweep")
CARD_CLIPS = 300
"""Where there are more clips, the card's program runs over so many, and the time of its loop is multiplied."""
DEMO_CLIPS = 736
"""Those of `data=demo`."""
PREFIX = "vjepa-mlflow-benchmark-"

CACHE_VARIABLES = (
    "VJEPA_MLFLOW_CACHE",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "TRITON_HOME",
    "CUDA_CACHE_PATH",
    "XDG_CACHE_HOME",
    "MPLCONFIGDIR",
)
"""What would lead out of a home to what the user has stored and compiled."""

TOLD = ("second", "checkpoint", "test_accuracy")
"""Words in the names of a run's metrics that are written down."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with train, val and test, each with a folder a class")
    parser.add_argument("--clips", type=int, nargs="+", help="how many: copies of the folder's, where it has others")
    parser.add_argument("--model", default=common.RANDOM_VITL, help="a checkpoint")
    parser.add_argument("--precision", default="bf16", help="ours; the card's loop has fp32")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument(
        "--runs", type=int, default=3, help="of imports, other seeds and full stores each; 0: one of imports alone"
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--demo", action="store_true", help="measure README's first command and the one after it alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.demo and options.data is None:
        parser.error("--data: expected a folder, or --demo")

    try:
        results = measure_demo(options) if options.demo else measure(options)
    except UserError as error:
        parser.error(str(error))
    tables = report.demo_command_tables if options.demo else report.command_tables
    print("", *tables(results.written()), sep="\n\n")


class Results:
    """What was measured, in this call and, where there is a file, before it.

    Args:
        path: of the file, or None.
        asked: what all commands in a file have in common.
        call: what stands beside each time, since other calls may be on other machines.

    Raises:
        UserError: the file is of other commands.
    """

    def __init__(self, path: Path | None, asked: Row, call: Row):
        self._path, self._asked, self._call = path, asked, call
        before: Row = {"asked": asked, "measured": []}
        if path is not None and path.exists():
            before = json.loads(path.read_text())
        if before["asked"] != asked:
            raise UserError(f"{path}: is of {before['asked']}: expected a file of {asked}, or a new one")
        self._measured: list[Row] = before["measured"]

    def add(self, name: str, clips: int, seconds: Sequence[float], **more: object) -> None:
        """Writes a command's times down in place of those of earlier calls, and prints them."""
        row: Row = {"name": name, "clips": clips, "seconds": list(seconds), **more, **self._call}
        kept = [other for other in self._measured if (other["name"], other["clips"]) != (name, clips)]
        self._measured = [*kept, row]
        if self._path is not None:
            common.write_json(str(self._path), self.written())
        print(line(row), flush=True)

    def written(self) -> Row:
        return {"asked": self._asked, "measured": self._measured}


def line(row: Row) -> str:
    median, imports = (statistics.median(row[name]) for name in ("seconds", "import_seconds"))
    values = ", ".join(f"{value:.1f}" for value in row["seconds"])
    return f"{row['clips']:6d} clips  {row['name']:26s} {median:8.1f} s = I {median - imports:+.1f} s   ({values})"


def measure(options: argparse.Namespace) -> Results:
    """All parts that are asked for, for each number of clips."""
    asked = {name: getattr(options, name) for name in ("model", "precision", "epochs")}
    results = Results(options.json, {"data": options.data.name, **asked}, describe_call(options.runs))
    model = in_a_process(_checkpoint_folder, options.model)
    loops: dict[int, Row] = {}
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        videos = Videos(options.data.absolute(), Path(folder))
        for read_by_all in (model, options.data):
            read_once(read_by_all)
        for clips in options.clips or [videos.count]:
            if "card" in options.only:
                looped = min(clips, max(videos.count, CARD_CLIPS))
                loop = loops.get(looped) or measure_loop(videos.sized(looped), model, options.epochs)
                loops[looped] = loop
                results.add(report.CARD, clips, [extended(loop, clips / looped)], looped_clips=looped, **loop)
            if {"train", "sweep"} & set(options.only):
                measure_ours(videos.sized(clips), model, options, clips, results)
    return results


def measure_loop(data: Path, model: Path, epochs: int) -> Row:
    """The card's loop as a program: the seconds of its process, those of its loop, and its metrics."""
    arguments = ["--data", str(data), "--model", str(model), "--epochs", str(epochs), "--output", "trained"]
    with fresh_home() as home:
        seconds = home.run("-m", "benchmarks.card_program", *arguments)
        told = [line for line in home.output().splitlines() if line.startswith("{")]
        return {"process_seconds": seconds, **json.loads(told[-1])}


def extended(loop: Row, times: float) -> float:
    """The program's seconds for so many times the clips. What is beside its loop is the same for any number."""
    return loop["process_seconds"] + loop["loop_seconds"] * (times - 1)


def measure_ours(data: Path, model: Path, options: argparse.Namespace, clips: int, results: Results) -> None:
    recipe = ["--data", str(data), "--model", str(model), "--precision", options.precision]
    recipe += ["--epochs", str(options.epochs), "--registered-model-name", "benchmark"]
    with fresh_home() as home:
        if "train" in options.only:
            seeds = [0], range(1, options.runs + 1), [0] * options.runs
            for name, chosen in zip(report.COMMANDS, seeds, strict=True):
                train(home, recipe, name, chosen, clips, results)
        if "sweep" in options.only:
            if "train" not in options.only:
                home.run("-m", "vjepa_mlflow", "train", *recipe)  # a sweep, too, comes to a machine that was used
            home.forget_features()
            for name in report.SWEEPS:
                sweep = ["sweep", str(SPACE), *recipe, "--trials", str(options.trials), "--study", name]
                seconds = home.run("-m", "vjepa_mlflow", *sweep)
                results.add(name, clips, [seconds], trials=options.trials, stored_gib=home.stored_gib())


def train(home: "Home", recipe: list[str], name: str, seeds: Sequence[int], clips: int, results: Results) -> None:
    """Trains with each seed, one after the other: adds how long each command took, and what it logged of it."""
    seconds, metrics = [], []
    for seed in seeds:
        seconds.append(home.run("-m", "vjepa_mlflow", "train", *recipe, "--seed", str(seed)))
        metrics.append(home.metrics())
        results.add(name, clips, seconds, metrics=metrics, stored_gib=home.stored_gib())


def measure_demo(options: argparse.Namespace) -> Results:
    """README's first command after installation, and what it takes from then on."""
    results = Results(options.json, {"data": "demo"}, describe_call(options.runs))
    with fresh_home() as home:
        first = home.run("-m", "mlflow", "run", str(REPOSITORY), "--env-manager", "local", "-P", "epochs=5")
        results.add("first command", DEMO_CLIPS, [first])
        train(home, [], "everything stored", [0] * options.runs, DEMO_CLIPS, results)
    return results


class Home:
    """A home for a user who has run nothing yet: with no caches, no temporary files and no MLflow database."""

    def __init__(self, folder: Path):
        self._folder, self._log = folder, folder / "output"
        self._database = f"sqlite:///{folder}/mlflow.db"
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in CACHE_VARIABLES and not name.startswith("MLFLOW_")
        }
        self._environment = importable(
            {
                "PYTHONUSERBASE": site.getuserbase(),  # libraries and downloaded checkpoints stay where they are
                "HF_HOME": str(Path.home() / ".cache" / "huggingface"),
                **kept,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # `mlflow run` starts `python`
                "HOME": f"{folder}/home",
                "TMPDIR": f"{folder}/tmp",
                "MLFLOW_TRACKING_URI": self._database,
            }
        )

    def run(self, *arguments: str) -> float:
        """Runs Python with these arguments, from its start to its end.

        Returns:
            The seconds.

        Raises:
            RuntimeError: it failed; the message has its output.
        """
        command = [sys.executable, *arguments]
        with self._log.open("w") as log:
            started = time.perf_counter()
            ended = subprocess.run(
                command, cwd=self._folder, env=self._environment, stdout=log, stderr=subprocess.STDOUT, check=False
            )
            seconds = time.perf_counter() - started
        if ended.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit status {ended.returncode}\n{self.output()}")
        return seconds

    def output(self) -> str:
        """What the last command printed."""
        return self._log.read_text()

    def metrics(self) -> dict[str, float]:
        """Those of the last run that tell of time or of checkpoints, and how good its head is."""
        client = MlflowClient(self._database)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        [run] = client.search_runs(experiments, max_results=1, order_by=["attributes.start_time DESC"])
        return {name: value for name, value in run.data.metrics.items() if any(word in name for word in TOLD)}

    def stored_gib(self) -> float:
        """What the feature store takes."""
        return sum(path.stat().st_size for path in self._features.rglob("*") if path.is_file()) / 2**30

    def forget_features(self) -> None:
        shutil.rmtree(self._features)

    @property
    def _features(self) -> Path:
        return self._folder / "home" / ".cache" / "vjepa-mlflow" / "features"


@contextmanager
def fresh_home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        yield Home(Path(folder))


def describe_call(runs: int) -> Row:
    """The machine, and I on it so many times.

    Before that, all that any command imports is read from the disk and compiled once, as an installation does, and so
    is what holds kernels: else the first command that needs something would pay for all.
    """
    machine = in_a_process(idle_machine)
    for folder in LIBRARIES:
        read_once(folder)
    with fresh_home() as home:
        home.run("-m", "compileall", "-q", str(REPOSITORY / "vjepa_mlflow"))
        home.run("-c", f"{IMPORTS}; {OTHER_IMPORTS}")
        seconds = [home.run("-c", IMPORTS) for _ in range(max(1, runs))]
    print(f"I = {statistics.median(seconds):.1f} s   ({', '.join(f'{value:.1f}' for value in seconds)})", flush=True)
    return {"machine": machine, "import_seconds": seconds}


def read_once(folder: Path) -> None:
    """Reads what lies in a folder, which may be on the disk alone."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass


class Videos:
    """The videos of a folder with splits and classes, and copies of them in folders of other sizes.

    Args:
        data: the folder.
        copies: where the other folders are made.

    Raises:
        UserError: it has no videos in such folders, or some that are no MP4.
    """

    def __init__(self, data: Path, copies: Path):
        self._data, self._copies = data, copies
        self._files = sorted(path for path in data.glob("*/*/*") if path.is_file())
        if not self._files:
            raise UserError(f"{data}: expected a folder with train, val and test, each with a folder a class")
        for path in self._files:
            if path.suffix != ".mp4":
                raise UserError(f"{path}: expected .mp4, since copies get a box of that format")

    @property
    def count(self) -> int:
        return len(self._files)

    def sized(self, clips: int) -> Path:
        """A folder with so many clips: the data's own, or one of copies in the same shares of splits and classes.

        Each copy has its own content: it ends in a numbered `free` box, which players skip.
        """
        folder = self._copies / str(clips)
        if clips == self.count or folder.exists():
            return self._data if clips == self.count else folder
        for number in range(clips):
            original = self._files[number * self.count // clips]
            copy = folder / original.parent.relative_to(self._data) / f"{number:06d}.mp4"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(original.read_bytes() + free_box(number))
        return folder


def free_box(number: int) -> bytes:
    return (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")


def in_a_process(function: Callable[..., Result], *arguments: object) -> Result:
    """Calls a function in a process of its own: what this one holds of a GPU would be there while commands run."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def idle_machine() -> dict[str, str]:
    """What the figures hold for.

    Raises:
        UserError: somebody else has the GPU.
    """
    device = choose_device("auto")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        if (used := (total - free) / 2**30) > 2:  # our own context is in it
            raise UserError(f"{device}: {used:.1f} GiB are in use: expected a GPU that is idle")
    return common.machine(device)


def _checkpoint_folder(name: str) -> Path:
    return common.find_checkpoint(name).folder.absolute()


if __name__ == "__main__":
    main()
