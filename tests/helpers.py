"""What several tests need: videos that tell their frame numbers, and subprocesses."""

import os
import re
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import TYPE_CHECKING, Any, TypeVar

import av
import numpy as np
import requests
from mlflow import MlflowClient

from vjepa_mlflow.video import ClipReader, ClipsRequest, Sampling, VideoError
from vjepa_mlflow.video.one_pass import Failed, Part, Pictures, Placed
from vjepa_mlflow.video.picture import to_rgb

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from vjepa_mlflow.features import Clip, Encoder

Result = TypeVar("Result")

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())

EPOCH_METRICS = {
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "val_top5_accuracy",
    "val_balanced_accuracy",
    "learning_rate",
    "clips_per_second",
}
"""What is told of an epoch."""

TEST_METRICS = {
    "test_accuracy",
    "test_balanced_accuracy",
    "test_top5_accuracy",
    "test_macro_f1",
    "test_loss",
    "test_calibration_error",
}
"""What is told of the test."""


def without_times(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics that are the same whenever the same is done."""
    return {name: value for name, value in metrics.items() if name not in ("clips_per_second", "duration_seconds")}


def write_video(
    path: Path,
    *,
    frames: int = 64,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    rate: int = 25,
    key_frames: int = 12,
) -> Path:
    """Encodes a video whose frame number can be read back with `frame_number`: eight black or white bars, a bit each.

    Two more bars carry bits 8 and 9, so that numbers go up to 1023.
    """
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.gop_size = key_frames
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_number(number, size), format="rgb24")))
        container.mux(stream.encode())
    return path


def draw_number(number: int, size: tuple[int, int]) -> np.ndarray:
    """An image of some width and height that shows a number, see `write_video`."""
    width, height = size
    bits = [(number >> bit) & 1 for bit in range(10)]
    columns = np.repeat(bits, -(-width // 10))[:width].astype(np.uint8) * 255
    return np.ascontiguousarray(np.repeat(np.broadcast_to(columns, (height, width))[..., None], 3, axis=2))


def frame_number(frame: np.ndarray) -> int:
    """Reads the number that `write_video` drew."""
    width = frame.shape[1]
    bar = -(-width // 10)
    middles = [min(width - 1, index * bar + bar // 2) for index in range(10)]
    return sum(int(frame[:, middle].mean() > 127) << bit for bit, middle in enumerate(middles))


def readme_block(language: str, containing: str) -> str:
    """The README's one block in a language that holds some text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (found,) = [text for text in blocks if containing in text]
    return found


def environment(**changes: str) -> dict[str, str]:
    """For a subprocess: this process's environment, the repository importable, its own Python first in the path."""
    base = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
    scripts = str(Path(sys.executable).parent)
    return {
        **base,
        "PATH": f"{scripts}{os.pathsep}{base['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, [base.get("PYTHONPATH")])]),
        **changes,
    }


@contextmanager
def server(command: list[str], *, folder: Path, health: str, port: int, **changes: str) -> Iterator[str]:
    """Runs a server until the block ends; yields its address once it answers.

    Args:
        command: to which `--port` is added.
        folder: the working directory.
        health: the path that answers 200 once it is up.
        port: on loopback.
        **changes: to the environment.
    """
    address = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("w+") as log:
        process = Popen(
            [*command, "--port", str(port)], cwd=folder, env=environment(**changes), stdout=log, stderr=STDOUT
        )
        try:
            _wait(address + health, process, log.name)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def _wait(address: str, process: Popen, log: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if requests.get(address, timeout=5).status_code == 200:
                return
        except requests.RequestException:
            time.sleep(0.5)
        if process.poll() is not None:
            break
    raise RuntimeError(f"{address} did not answer: {Path(log).read_text()[-2000:]}")


def reserved() -> int:
    """Bytes of the GPU's memory that PyTorch holds and could not give back."""
    import torch

    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved()


def gpu_memory_needed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What some work returns, and the GiB of the GPU's memory that it took."""
    import torch

    before = reserved()
    torch.cuda.reset_peak_memory_stats()
    result = work()
    return result, (torch.cuda.max_memory_reserved() - before) / 2**30


@contextmanager
def gpu_memory_left(gib: float) -> Iterator[None]:
    """Lets this process take only so much more of the GPU's memory inside the block."""
    import torch

    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (reserved() + gib * 2**30) / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def points(run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Every point of every metric of a run, but for the system's and for times, as steps and values."""
    client = MlflowClient()
    names = [name for name in client.get_run(run_id).data.metrics if not name.startswith("system/")]
    histories = {name: client.get_metric_history(run_id, name) for name in without_times(dict.fromkeys(names, 0.0))}
    return {name: sorted((point.step, point.value) for point in history) for name, history in histories.items()}


def wait_until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Returns once the condition holds, which it must within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def copy_store(empty_store: Path, folder: Path) -> str:
    """Makes a tracking store of a folder's own, of one that is empty; returns its URI."""
    database = shutil.copy(empty_store, folder / "mlflow.db")
    with closing(sqlite3.connect(database)) as store, store:
        store.execute("UPDATE experiments SET artifact_location = ?", [f"{folder}/mlruns/0"])
    return f"sqlite:///{database}"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def flip(file: Path) -> None:
    """Changes one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def put_pipe(file: Path) -> None:
    """Puts a pipe in a file's place."""
    file.unlink()
    os.mkfifo(file)


def allocate(size: int) -> np.ndarray:
    return np.empty(size, np.uint8)


def whole_clips(parts: Iterable[Part]) -> dict[float, np.ndarray | VideoError]:
    """The clips that a pass over a video gives, by their positions: RGB frames, or what is wrong."""
    clips: dict[float, np.ndarray | VideoError] = {}
    placed: dict[float, list[int]] = {}
    frames: dict[int, np.ndarray] = {}
    for part in parts:
        if isinstance(part, Failed):
            clips.setdefault(part.position, part.error)
        elif isinstance(part, Placed):
            placed, frames = dict(part.clips), {}
        elif isinstance(part, Pictures):
            frames.update(zip(part.indices, (frame.copy() for frame in rgb_of(part)), strict=True))
            for position in [position for position, indices in placed.items() if set(indices) <= set(frames)]:
                clips.setdefault(position, np.stack([frames[index] for index in placed.pop(position)]))
    return clips


def rgb_of(pictures: Pictures) -> Iterator[np.ndarray]:
    for values in pictures.values:
        if pictures.colours is None:
            yield values
        else:
            yield pictures.turn.apply(
                to_rgb(values, pictures.height, pictures.width, pictures.colours, pictures.interleaved)
            )


def read_clips(
    paths: Sequence[Path], sampling: Sampling, *positions: float, as_planes: bool = False
) -> list[np.ndarray | VideoError]:
    """The clips of files at the same positions, file by file, as worker processes read them."""
    return read_requests([ClipsRequest(path, positions) for path in paths], sampling, as_planes=as_planes)


def read_requests(
    requests: Sequence[ClipsRequest], sampling: Sampling, *, as_planes: bool = False
) -> list[np.ndarray | VideoError]:
    parts: dict[ClipsRequest, list[Part]] = {request: [] for request in requests}

    def finish(request: ClipsRequest, part: Part) -> tuple[ClipsRequest, Part]:
        is_read = isinstance(part, Pictures)
        return request, part._replace(values=part.values.copy()) if is_read else part  # type: ignore[call-arg]

    reader = ClipReader(sampling, as_planes=as_planes)
    stream = reader.read(requests, finish=finish, size=lambda _: 0)
    while (found := stream.take()) is not None:
        parts[found[0]].append(found[1])
    stream.close()
    clips = {request: whole_clips(parts[request]) for request in requests}
    return [clips[request][position] for request in requests for position in request.positions]


def encode(encoder: "Encoder", clips: Sequence["Clip"]) -> list[Any]:
    """The features of each clip, in turn, or what is wrong with its video."""
    found = dict(encoder.encode(clips))
    return [found[clip] for clip in clips]
