"""Kills a process before each call that changes a file of ours, and looks whether the next one goes on.

    python -m tools.kills

Of a delivery (entries of every kind, to a real `mlflow server`, part of them while nobody answers), of a training's
checkpoints, and of what is kept of videos (a note, a timeline, a thumbnail, properties, an entry of the feature store,
a file of the demo). Not by chance: calls are counted, and a child that is forked for each of them, with everything
imported, is killed before it; of a write, when half of it is done. Another child then does the same work again, and all
must be there, once.
"""

import builtins
import io
import itertools
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from tqdm import tqdm

CHANGES = ("fsync", "link", "mkdir", "remove", "rename", "replace", "rmdir", "symlink", "truncate", "unlink")
"""Of `os`, and what writes to files that were opened."""

Holds = Callable[[str], bool]
Answer = TypeVar("Answer")

NOBODY = "http://127.0.0.1:1"
"""A tracking server that does not answer."""


class Countdown:
    """Kills this process before the call of a number that changes one of some files.

    Args:
        number: of the call, from 1.
        concerns: whether a path is of those that count.
    """

    def __init__(self, number: int, concerns: Holds):
        self._left = number
        self._concerns = concerns

    def is_over(self, path: object) -> bool:
        """Counts a call that changes a file; whether it is the one."""
        if not isinstance(path, str | bytes | os.PathLike) or not self._concerns(
            str(Path(os.fsdecode(path)).absolute())
        ):
            return False
        self._left -= 1
        return self._left == 0

    def count(self, path: object) -> None:
        if self.is_over(path):
            die()

    def install(self) -> None:
        """Has the calls of this process counted, until its end."""
        for name in CHANGES:
            setattr(os, name, self._counted(getattr(os, name)))
        opened = builtins.open

        def open_counted(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if not set(mode) & set("wax+") or isinstance(file, int):
                return opened(file, mode, *arguments, **named)
            self.count(file)
            raw = _CountedFile(file, mode.replace("t", "").replace("b", ""), self)
            buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return buffer
            text = {name: value for name, value in named.items() if name in ("encoding", "errors", "newline")}
            return io.TextIOWrapper(buffer, **text)

        builtins.open = io.open = open_counted  # type: ignore[assignment]

    def _counted(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: Any, *arguments: Any, **named: Any) -> Any:
            folder = named.get("dir_fd")  # as `shutil.rmtree` has it
            where = path if folder is None else Path(f"/proc/self/fd/{folder}").readlink() / path
            self.count(where)
            return change(path, *arguments, **named)

        return counted


class _CountedFile(io.FileIO):
    def __init__(self, file: Any, mode: str, countdown: Countdown):
        super().__init__(file, mode)
        self._countdown = countdown

    def write(self, data: Any) -> int:
        if self._countdown.is_over(self.name):
            super().write(memoryview(data)[: len(memoryview(data)) // 2])
            die()
        return super().write(data)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def is_killed(action: Callable[[], None], number: int, concerns: Holds) -> bool:
    """Does something in a child that is killed before its change of a number; whether it came so far.

    Raises:
        RuntimeError: it failed of itself.
    """
    child = os.fork()
    if not child:
        tqdm.set_lock(threading.RLock())  # its own is shared with this process, and a killed child may hold it
        try:
            if number:
                Countdown(number, concerns).install()
            action()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status:
        raise RuntimeError(f"a child that was to be killed before change {number} failed")
    return False


def do(action: Callable[[], None]) -> None:
    """Does something in a child that is left alone."""
    is_killed(action, 0, lambda _: False)


def ask(question: Callable[[], Answer]) -> Answer:
    """What a child finds out: this process opens nothing that its children would share."""
    with tempfile.NamedTemporaryFile() as file:
        do(lambda: Path(file.name).write_bytes(pickle.dumps(question())) and None)
        return pickle.loads(file.read())  # type: ignore[no-any-return]


def kill_before_each(action: Callable[[], None], concerns: Holds, *, step: int = 1) -> Iterator[int]:
    """Yields after each kill, until the action comes to its end before it would be killed.

    Args:
        action: what is done.
        concerns: whether a path is of those that count.
        step: changes from one kill to the next.
    """
    number = 1
    while is_killed(action, number, concerns):
        yield number
        number += step


def kill_deliveries(folder: Path) -> Iterator[str]:
    """Kills what logs entries of every kind to a run, part of them while nobody answers; yields what is amiss."""
    cache = str(folder / "cache")
    undisturbed = ask(_begin_run)
    do(lambda: _log_everything(undisturbed, folder))
    expected = ask(lambda: _state(undisturbed))
    for number in itertools.count(1):
        run_id = ask(_begin_run)
        if not is_killed(partial(_log_everything, run_id, folder), number, lambda path: path.startswith(cache)):
            return
        do(partial(_log_everything, run_id, folder))
        found = ask(partial(_state, run_id))
        yield "" if found == expected and not (folder / "cache" / "outbox").exists() else f"change {number}: {found}"


def _begin_run() -> str:
    from mlflow import MlflowClient

    return str(MlflowClient().create_run("0").info.run_id)


def _log_everything(run_id: str, folder: Path) -> None:
    import mlflow
    import pandas as pd

    from vjepa_mlflow.tracking.lifecycle import open_log

    with open_log(run_id, continued=True) as log:
        log.params({"epochs": 5})
        log.text("<p>", "report.html")
        log.checkpoint(folder / "state", "checkpoint/state-1")
        log._outbox.flush()
        address = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(NOBODY)
        log.metrics({"val_loss": 0.5}, step=1)
        log.data_frame(pd.DataFrame({"row": [1, 2]}), "rows.json")
        log.checkpoint(folder / "state", "checkpoint/state-2")
        log.input(mlflow.data.from_pandas(pd.DataFrame({"name": ["a"]}), name="set"), context="train")
        log._outbox.flush()
        mlflow.set_tracking_uri(address)
        log._outbox.flush()


def _state(run_id: str) -> tuple[object, ...]:
    """What a run has on the server, which must be the same whenever a process was killed."""
    from mlflow import MlflowClient

    client = MlflowClient()
    run = client.get_run(run_id)
    points = [(point.step, point.value) for point in client.get_metric_history(run_id, "val_loss")]
    names = sorted(one.path for folder in ("", "checkpoint") for one in client.list_artifacts(run_id, folder))
    tables = run.data.tags.get("mlflow.loggedArtifacts")
    return run.data.params.get("epochs"), points, names, tables, len(run.inputs.dataset_inputs)


def kill_trainings(folder: Path) -> Iterator[str]:
    """Kills a training before each change of a checkpoint, here and on its way to the run; yields what is amiss."""
    from tools.torture import draw_data, last_run, read_outcome
    from vjepa_mlflow import Recipe, train
    from vjepa_mlflow.tracking import RunLog, find_unfinished, run_log  # noqa: F401, which the children need

    do(lambda: draw_data(folder / "data") and None)  # in a child, since forks of who has computed cannot
    recipe = Recipe(data=str(folder / "data"), model="tiny", device="cpu", epochs=2, learning_rate=3e-4)

    def job() -> None:
        with (folder / "log").open("a") as log, redirect_stdout(log), redirect_stderr(log):
            train(recipe, resume="auto", save_steps=1)

    do(job)
    alone = ask(lambda: read_outcome(last_run()))
    for number in itertools.count(1):
        if not is_killed(job, number, lambda path: "checkpoint" in path.removeprefix(str(folder))):
            return
        do(job)
        found = ask(lambda: read_outcome(last_run()).differences(alone))
        yield f"change {number}: {found}" if found else ""


def kill_keepers(folder: Path) -> Iterator[str]:
    """Kills what keeps what can be made again before each change of the cache; yields what is amiss.

    The next one ends as one that was never killed, the cache holds the same files, and they have the same contents but
    for what was measured in seconds.
    """
    from vjepa_mlflow.data import demo, draw_clip  # noqa: F401, which the children need
    from vjepa_mlflow.evaluation import thumbnails  # noqa: F401
    from vjepa_mlflow.features import store  # noqa: F401
    from vjepa_mlflow.stages import assess  # noqa: F401
    from vjepa_mlflow.video import preflight, properties  # noqa: F401

    video = folder / "clip.mp4"
    do(lambda: video.write_bytes(draw_clip("left_clockwise", seed=0)) and None)  # here, it would leave threads to fork
    cache = folder / "cache"
    expected = ask(partial(_keep_everything, video)), _files(cache)
    for number in itertools.count(1):
        shutil.rmtree(cache)
        if not is_killed(lambda: _keep_everything(video) and None, number, lambda path: path.startswith(str(cache))):
            return
        found = ask(partial(_keep_everything, video)), _files(cache)
        yield "" if found == expected else f"change {number}: {found}"


def _keep_everything(video: Path) -> tuple[object, ...]:
    """Does what keeps something of a video, twice, and returns what it came to."""
    import numpy as np
    import torch

    from vjepa_mlflow.data import demo
    from vjepa_mlflow.evaluation.thumbnails import _Read, thumbnail_cache_dir
    from vjepa_mlflow.features.names import FeatureSpace
    from vjepa_mlflow.features.store import FeatureStore
    from vjepa_mlflow.files.cache import cache_folder
    from vjepa_mlflow.files.temporary import sweep
    from vjepa_mlflow.video import Sampling, VideoFile, notes, property_cache_dir, video_cache_dir
    from vjepa_mlflow.video.preflight import _Inspect
    from vjepa_mlflow.video.properties import Measure

    torch.set_num_threads(1)
    demo.CLIPS_PER_CLASS = {"train": 1}
    demo.MOTIONS = {"left_clockwise": demo.MOTIONS["left_clockwise"]}
    notes.LEAST_BYTES = 0  # so that this one's timeline is noted
    sampling, root = Sampling(16), cache_folder()
    inspect = _Inspect(sampling, video_cache_dir("disk"), reread=False)  # in this process, and not in its workers
    measure, draw = Measure(sampling, property_cache_dir("disk")), _Read(sampling, thumbnail_cache_dir("disk"))
    space = FeatureSpace("backbone", "processor", 16, 4, 0.0, "fp32", "transformers")
    name, features = "0" * 64, torch.arange(12.0).reshape(3, 4)
    for folder in root.glob("*"):
        sweep(folder)  # as a start does
    found: tuple[object, ...] = ()
    for _ in range(2):
        inspection = inspect.cached(video) or inspect(video)
        assert inspection.finding is not None
        digest = inspection.finding.digest
        store = FeatureStore(space)
        if (kept := store.read(name)) is None:
            store.write(name, features)
            store.finish()
        elif not torch.equal(kept, features):
            raise ValueError("other features")
        properties = measure.cached(digest) or measure(VideoFile(video, digest))
        thumbnails = draw.cached(digest)
        thumbnails = draw(VideoFile(video, digest)) if thumbnails is None else thumbnails
        assert isinstance(thumbnails, np.ndarray)
        found = digest, properties, thumbnails.tobytes(), demo.folder()
    return found


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@click.command()
def main() -> None:
    """Kills each of these before each change of a file, and says how often and what was amiss."""
    import mlflow

    from tools.outages import mlflow_server

    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["VJEPA_MLFLOW_CACHE"] = str(folder / "cache")
        report("what is kept of videos", kill_keepers(folder))  # first: nothing has left threads here, to be forked
        (folder / "state").write_bytes(b"state")
        with mlflow_server(folder, f"sqlite:///{folder}/server.db") as address:
            mlflow.set_tracking_uri(address)
            report("a delivery", kill_deliveries(folder))
        shutil.rmtree(folder / "cache", ignore_errors=True)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        report("a checkpoint", kill_trainings(folder))


def report(what: str, found: Iterator[str]) -> None:
    """Says how many kills there were, and what was amiss after them."""
    every = list(found)
    amiss = [one for one in every if one]
    print(f"{len(every)} kills between two changes of {what}: {len(amiss)} amiss", *amiss, sep="\n", flush=True)
    if amiss:
        sys.exit(1)


if __name__ == "__main__":
    main()
