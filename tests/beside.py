"""Programs at work beside the tests on a GPU, since starting and compiling take most of their time."""

import re
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory

import mlflow
import pytest
from helpers import environment


class Job:
    """One of the package's commands, with a tracking store and a cache of its own.

    Args:
        folder: where it works, and keeps these.
        arguments: of `vjepa-mlflow`.
    """

    def __init__(self, folder: Path, *arguments: str):
        self._folder = folder
        self._places = {
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "VJEPA_MLFLOW_CACHE": str(folder / "cache"),
        }
        command = [sys.executable, "-m", "vjepa_mlflow", *arguments]
        self._program = Popen(command, cwd=folder, env=environment(**self._places), stdout=PIPE, text=True)
        self._printed = ""

    def wait(self) -> str:
        """Waits until it has ended well; returns its model's URI."""
        self._printed += self._program.communicate()[0] if self._program.returncode is None else ""
        assert self._program.returncode == 0
        found = re.search(r"models:/\S+", self._printed)
        assert found
        return found[0]

    @contextmanager
    def store(self) -> Iterator[None]:
        """Makes its folder the working directory in the block, and its tracking store and cache those of the tests."""
        before = mlflow.get_tracking_uri()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self._folder)
            for name, value in self._places.items():
                patch.setenv(name, value)
            mlflow.set_tracking_uri(self._places["MLFLOW_TRACKING_URI"])
            yield
            mlflow.set_tracking_uri(before)

    def end(self) -> None:
        with self._program:
            self._program.terminate()


@cache
def pretraining() -> "Future[list[str]]":
    """The first two lines that `tools.pretrain_tiny` prints, which is ended then: the same ones for all who ask."""
    return ThreadPoolExecutor(1).submit(_pretrain)


def _pretrain() -> list[str]:
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tools.pretrain_tiny", "--output", folder, "--log", folder]
        with Popen(command, env=environment(), stdout=PIPE, text=True) as program:
            assert program.stdout
            lines = [program.stdout.readline() for _ in range(2)]
            program.terminate()
    return lines
