"""The states of a run's training, kept so that it goes on where it stopped: on this machine or on another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from vjepa_mlflow import tracking, training
from vjepa_mlflow.cache import own_folder
from vjepa_mlflow.errors import UserError, expected, one_line, remark

ARTIFACTS = "checkpoint"
"""The folder of the run's artifacts that holds the newest one."""


class Checkpoints:
    """The newest state of a run's training, as a file of the cache and as an artifact.

    It is written by a thread, beside the training. Where that is faster than the disk, states between are left out.

    Args:
        log: of the run.
    """

    def __init__(self, log: tracking.RunLog):
        self._log = log
        self._folder = own_folder("checkpoints") / log.run_id
        self._pool = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._newest: tuple[int, training.Snapshot] | None = None

    def save(self, state: training.TrainingState) -> None:
        """Has the state written, and returns before it is.

        Raises:
            UserError: an earlier one could not be written: the disk is full.
        """
        self._newest = state.steps, state.snapshot()
        if self._writing is None or self._writing.done():
            self.finish_writing()
            self._writing = self._pool.submit(self._write)

    def finish_writing(self) -> None:
        """Waits until the newest state is written. Raises what `save` raises."""
        if self._writing is not None:
            self._writing.result()
        self._write()

    def read(self) -> training.Snapshot | None:
        """The newest state that can be trusted; None where none was ever written.

        Raises:
            UserError: there are some, and all were changed, or cannot be read.
        """
        refusals: list[UserError] = []
        for path in self._kept():
            try:
                found = training.read_snapshot(path)
            except UserError as error:
                refusals.append(error)
                continue
            for refusal in refusals:
                remark(f"{refusal}; another one is")
            return found
        if refusals:
            raise refusals[0]
        return None

    def exist(self) -> bool:
        """Whether there are any, here or among the run's artifacts."""
        return any(self._folder.glob("*.safetensors")) or bool(tracking.list_files(self._log.run_id, ARTIFACTS))

    def forget(self) -> None:
        """Deletes them: the run has come to its end."""
        self._log.forget_checkpoints(ARTIFACTS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _kept(self) -> Iterator[Path]:
        """The files, the newest first, this machine's before the run's."""
        here = {path.name: path for path in self._folder.glob("*.safetensors")}
        there = tracking.list_files(self._log.run_id, ARTIFACTS)
        for name in sorted({*here, *there}, reverse=True):
            if name in here:
                yield here[name]
            if name in there:
                self._folder.mkdir(parents=True, exist_ok=True)
                yield tracking.download(self._log.run_id, f"{ARTIFACTS}/{name}", self._folder)

    def _write(self) -> None:
        while self._newest is not None:
            (steps, snapshot), self._newest = self._newest, None
            path = self._folder / f"step-{steps:08}.safetensors"
            try:
                snapshot.write(path)
            except OSError as error:
                raise UserError(
                    f"{self._folder}: the checkpoint cannot be written ({one_line(error)}): expected "
                    f"{expected(error)}; VJEPA_MLFLOW_CACHE names another folder"
                ) from error
            self._log.checkpoint(path, f"{ARTIFACTS}/{path.name}")
            for older in self._folder.glob("step-*.safetensors"):
                if older.name < path.name:
                    older.unlink(missing_ok=True)
