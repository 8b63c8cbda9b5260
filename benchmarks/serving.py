"""A model behind `mlflow models serve`, asked by many clients at once.

    python -m benchmarks.serving --video clip.mp4 --model random-vitl --precision bf16 --json serving.json

Requests hold one video in JSON, over HTTP on loopback, each client one connection. Memory is what the server and its
decoders have of their own (USS), after as many requests as are named.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import httpx
import numpy as np
import psutil

from benchmarks import common
from vjepa_mlflow import flavor
from vjepa_mlflow.flavor.config import ServingConfig
from vjepa_mlflow.model import choose_device

START_SECONDS = 400
LABELS = ["ape", "bee", "cat", "dog"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="what is sent; without it, 10 s of 320x240 pixels that are drawn")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], help="processes, each with the model: serve -w")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--requests", type=int, nargs="+", default=[200, 5000], help="for each number of clients")
    parser.add_argument("--memory-after", type=int, nargs="*", default=[1000, 5000])
    parser.add_argument("--json")
    options = parser.parse_args()

    video = options.video.read_bytes() if options.video else draw_video()
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(Path(folder) / "model", options.model, precision=options.precision)
        loads = []
        for workers in options.workers:
            with server(model, Path(folder), workers=workers) as (address, process):
                for clients, requests in zip(options.clients, options.requests, strict=True):
                    asked = load(
                        address, process, video, clients=clients, requests=requests, memory_after=options.memory_after
                    )
                    loads.append({"workers": workers, **asked})
    results = {
        "machine": common.machine(choose_device("auto")),
        "model": options.model,
        "precision": options.precision,
        "video_bytes": len(video),
        "loads": loads,
    }
    common.write_json(options.json, results)


def draw_video() -> bytes:
    """A moving pattern."""
    content = io.BytesIO()
    rows, columns = np.mgrid[:240, :320]
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("libx264", 30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(300):
            image = (127 + 60 * np.sin((rows + 2 * number) / 9) + 60 * np.cos((columns - number) / 13)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.repeat(image[..., None], 3, axis=2), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return content.getvalue()


def save_model(folder: Path, name: str, *, precision: str) -> Path:
    checkpoint = common.find_checkpoint(name)
    model, processor = common.load(checkpoint, LABELS, choose_device("cpu"))
    flavor.save_model(model, processor, folder, stride=4, config=ServingConfig(precision=precision))
    return folder


@contextmanager
def server(model: Path, folder: Path, *, workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """Yields the server's address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", str(model)]
    # The server's command is found beside Python, whose folder may not be in the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    started = time.perf_counter()
    with (folder / "server.log").open("w+") as log:
        launcher = subprocess.Popen(
            [*command, "--port", str(port), "--workers", str(workers)],
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": path},
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait(address, launcher, Path(log.name))
            print(f"Serving after {time.perf_counter() - started:.1f} s", flush=True)
            yield address, find_server(psutil.Process(launcher.pid))
        finally:
            if launcher.poll() is None:
                for process in [*psutil.Process(launcher.pid).children(recursive=True), launcher]:
                    process.terminate()
                launcher.wait(30)


def wait(address: str, launcher: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and launcher.poll() is None:
        try:
            if httpx.get(f"{address}/ping").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit(f"The server does not answer:\n{log.read_text()[-3000:]}")


def find_server(launcher: psutil.Process) -> psutil.Process:
    """The process that serves, or whose children do; the command starts it through a shell."""
    family = [launcher, *launcher.children(recursive=True)]
    return max((one for one in family if "uvicorn" in " ".join(one.cmdline())), key=lambda one: one.memory_info().rss)


def load(
    address: str, process: psutil.Process, video: bytes, *, clients: int, requests: int, memory_after: list[int]
) -> dict[str, object]:
    """Asks so many times, by so many clients."""
    body = json.dumps({"dataframe_records": [{"video": base64.b64encode(video).decode()}]}).encode()
    begun = time.perf_counter()
    asked = asyncio.run(ask_all(address, process, body, clients, requests, memory_after))
    measured = {
        "clients": clients,
        "requests": requests,
        "failed": asked["failed"],
        "requests_per_second": requests / (time.perf_counter() - begun),
        **{f"p{share}_ms": float(np.percentile(asked["seconds"], share)) * 1000 for share in (50, 95, 99)},
        "memory_mib": asked["memory"],
    }
    print(measured, flush=True)
    return measured


async def ask_all(
    address: str, process: psutil.Process, body: bytes, clients: int, requests: int, memory_after: list[int]
) -> dict[str, object]:
    seconds: list[float] = []
    answers: set[tuple[int, str | None]] = set()
    memory: dict[int, float] = {}
    numbers = iter(range(requests))
    failed = 0

    async def client() -> None:
        nonlocal failed
        async with httpx.AsyncClient(timeout=120) as connection:
            for _ in numbers:
                started = time.perf_counter()
                answer = await connection.post(
                    f"{address}/invocations", content=body, headers={"Content-Type": "application/json"}
                )
                seconds.append(time.perf_counter() - started)
                label = answer.json()["predictions"][0]["label"] if answer.is_success else None
                answers.add((answer.status_code, label))
                failed += not answer.is_success
                if len(seconds) in memory_after:
                    memory[len(seconds)] = own_memory(process)

    await asyncio.gather(*(client() for _ in range(clients)))
    if len(answers) > 1:
        raise SystemExit(f"One video, and several answers: {answers}")
    return {"seconds": seconds, "failed": failed, "memory": memory}


def own_memory(process: psutil.Process) -> float:
    """MiB of a process and those that it started."""
    return sum(one.memory_full_info().uss for one in [process, *process.children(recursive=True)]) / 2**20


if __name__ == "__main__":
    main()
