"""Takes the tracking server away from the main job, in training and in upload, and looks whether anything is missing.

    python -m tools.outages --seconds 5 --seconds 30 --seconds 120

The server is a real one behind a proxy that is cut, with SQLite unless a store is named. Afterwards each point of each
metric must be there once, with the value that a run on a server which stayed has, and so must every artifact.
"""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import mlflow
import requests
from mlflow import MlflowClient

from tools.proxy import Proxy
from tools.torture import Outcome, draw_data, last_run, read_outcome, start_job

IN_TRAINING, IN_METRICS = "training", "the last metrics"
IN_UPLOAD, IN_MODEL = "an artifact's upload", "the model's upload"
WORDS = {IN_METRICS: b"test_accuracy", IN_UPLOAD: b"report.html", IN_MODEL: b"model-00001-of-00002.safetensors"}
"""What the job sends at such a moment."""


@contextmanager
def mlflow_server(folder: Path, store: str) -> Iterator[str]:
    """Runs `mlflow server` until the block ends; yields its address once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
    with (folder / "server.log").open("w") as log:
        # Without the processes that run MLflow's own jobs, of which there are eight.
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = subprocess.Popen([*command, "--port", str(port)], cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            while not _answers(address):
                time.sleep(0.5)
                if server.poll() is not None:
                    raise RuntimeError((folder / "server.log").read_text()[-2000:])
            yield address
        finally:
            server.terminate()
            server.wait(30)


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=5).ok
    except requests.RequestException:
        return False


@dataclass(frozen=True)
class Stage:
    """Where jobs are tried: a folder, videos, and a server behind a proxy.

    Attributes:
        folder: for everything.
        data: the videos.
        proxy: whose address the jobs have.
    """

    folder: Path
    data: Path
    proxy: Proxy

    def job(self, *options: str) -> subprocess.Popen[bytes]:
        return start_job(self.folder, self.data, self.proxy.address, *options)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def wait_for(self, words: str, job: subprocess.Popen[bytes], *, begin: int) -> None:
        """Waits until the job has said something, after so many characters of the log."""
        while words not in self.log()[begin:]:
            time.sleep(0.02)
            if job.poll() is not None:
                raise RuntimeError(self.log()[-2000:])

    def outcome(self) -> tuple[Outcome, set[str]]:
        """What MLflow has of the last run, and the names of its artifacts but for TensorBoard's."""
        run_id = last_run()
        artifacts = {artifact.path for artifact in MlflowClient().list_artifacts(run_id)}
        return read_outcome(run_id), artifacts

    def try_outage(self, moment: str, seconds: float) -> int:
        """Runs a job with the server away at a moment for so long. Returns its exit status."""
        begin = len(self.log())
        if moment in WORDS:
            self.proxy.cut_when_sent(WORDS[moment], seconds)
        job = self.job()
        if moment == IN_TRAINING:
            self.wait_for("Epoch 5/", job, begin=begin)
            self.proxy.cut_for(seconds)
        return job.wait()

    def try_absence(self, moment: str) -> tuple[int, int, str]:
        """Runs a job whose server is away for good, and delivers the rest when it is back.

        Returns:
            The exit statuses of the job and of the upload, and what the job said at last.
        """
        with patient(0):
            begin = len(self.log())
            if moment in WORDS:
                self.proxy.cut_when_sent(WORDS[moment], 1e6)
            job = self.job()
            if moment == IN_TRAINING:
                self.wait_for("Epoch 5/", job, begin=begin)
                self.proxy.cut()
            status = job.wait()
        said = self.log()[begin:].strip().splitlines()[-1]
        self.proxy.join()
        command = shlex.split(said.partition("vjepa-mlflow ")[2])
        upload = subprocess.run([sys.executable, "-m", "vjepa_mlflow", *command], capture_output=True, check=False)
        return status, upload.returncode, said


@contextmanager
def patient(retries: int) -> Iterator[None]:
    """Has MLflow try again so often in the block."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = str(retries)
    yield
    del os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]


@contextmanager
def staged(folder: Path, store: str) -> Iterator[Stage]:
    """A stage with a server of its own, to which this process speaks without the proxy."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with mlflow_server(folder, store) as address:
        mlflow.set_tracking_uri(address)
        yield Stage(folder, draw_data(folder / "data"), Proxy(address))


def amiss(found: tuple[Outcome, set[str]], expected: tuple[Outcome, set[str]]) -> str:
    """What is not as in a run whose server stayed, in words."""
    differences = found[0].differences(expected[0])
    differences += [f"no {name}" for name in expected[1] - found[1]]
    return ", ".join(differences) or "everything is there, once"


@click.command()
@click.option("--seconds", multiple=True, default=(5.0, 30.0, 120.0), show_default=True, help="How long it is away.")
@click.option("--store", default="sqlite:///server.db", show_default=True, help="The server's.")
def main(seconds: tuple[float, ...], store: str) -> None:
    with tempfile.TemporaryDirectory() as name, staged(Path(name), store) as stage:
        if stage.job().wait() != 0:
            raise RuntimeError(stage.log()[-2000:])
        expected = stage.outcome()
        for moment in (IN_TRAINING, *WORDS):
            for away in seconds:
                status = stage.try_outage(moment, away)
                print(f"{away:g} s in {moment}: exit {status}, {amiss(stage.outcome(), expected)}", flush=True)
            status, uploaded, said = stage.try_absence(moment)
            print(said)
            print(
                f"for good in {moment}: exit {status}, upload {uploaded}, {amiss(stage.outcome(), expected)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
