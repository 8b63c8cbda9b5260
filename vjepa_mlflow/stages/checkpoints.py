"""The states of a run's training, kept so that it goes on where it stopped: on this machine or on another."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from vjepa_mlflow import tracking, training
from vjepa_mlflow.errors import UserError, expected, one_line
from vjepa_mlflow.files.cache import own_folder
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.stages.snapshot_writer import SnapshotWriter

logger = get_logger(__name__)

ARTIFACTS = "checkpoint"
"""The folder of the run's artifacts that holds the newest one."""

CHECKPOINT_INTERVAL = 60
"""Seconds of training that may be lost: what took less is done again as fast as it would be saved and loaded."""

NOTHING = (0, 0)
"""Steps and epochs of the newest state that is saved, where none is."""

SHARE = 0.05
"""Of a training's time, what its checkpoints may take, the writing of them beside it included."""


class CheckpointClock:
    """Tells when a training's state is worth saving: by the time that would be lost, and by what saving it takes."""

    def __init__(self) -> None:
        self._began = time.monotonic()  # of the last save, or of the training
        self._is_saving = False
        self._cost = 0.0

    def is_due(self) -> bool:
        """Whether enough has been done since the last save began, and that one has ended."""
        since = time.monotonic() - self._began
        return not self._is_saving and since > max(CHECKPOINT_INTERVAL, self._cost / SHARE)

    def begin(self) -> None:
        """Notes that a state is being saved from now on."""
        self._began, self._is_saving = time.monotonic(), True

    def end(self) -> None:
        """Notes that it is written, or cannot be."""
        self._cost, self._is_saving = time.monotonic() - self._began, False


class Checkpoints:
    """The newest state of a run's training, as a file of the cache and as an artifact.

    A training in the block gives its own time for copies alone: a thread of the block's digests, writes and logs them.
    Where states come faster than it writes, those between are left out. What ends the block by an error has the last
    state saved, wherever training can be resumed at it.

    Args:
        log: of the run.
        every: optimizer steps after which a state is saved whether it is due or not; 0 for none.

    Attributes:
        waits: seconds that the training stood still, for each state that was saved.
    """

    def __init__(self, log: tracking.RunLog, *, every: int = 0):
        self._log = log
        self._every = every
        self._folder = own_folder("checkpoints") / log.run_id
        self._clock = CheckpointClock()
        self._writer = SnapshotWriter(self._write)
        self._state: training.TrainingState | None = None
        self._saved = NOTHING
        self.waits: list[float] = []

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._save_last(error)
        finally:
            self._writer.close()

    def offer(self, state: training.TrainingState) -> None:
        """Saves the state if it is another one and due, or was asked for. Raises what `save` raises."""
        if self._state is None:
            self._clock = CheckpointClock()  # what was before the first step is no training
        self._state = state
        is_asked_for = self._every and state.steps % self._every == 0 and state.steps > self._saved[0]
        if is_asked_for or self._clock.is_due():
            self.save(state)

    def save(self, state: training.TrainingState) -> None:
        """Copies the state, to be written beside what follows, unless it is the newest that was.

        Raises:
            UserError: an earlier one could not be written: the disk is full.
        """
        if _progress(state) == self._saved:
            return
        self._clock.begin()
        began = time.monotonic()
        memory = self._writer.lend()
        snapshot = state.snapshot(memory)
        self._saved = _progress(state)  # before a failure to write it can say that it is not
        self._writer.put(snapshot, memory)
        self.waits.append(time.monotonic() - began)

    def finish_writing(self) -> None:
        """Waits until the newest state that was saved is written. Raises what `save` raises."""
        self._writer.finish()

    def read(self) -> training.Snapshot | None:
        """The newest state that can be trusted; None where none was ever written.

        Raises:
            UserError: there are some, and all were changed, or cannot be read.
        """
        refusals: list[UserError] = []
        for path in self._kept():
            try:
                snapshot = training.read_snapshot(path)
            except UserError as error:
                refusals.append(error)
                continue
            for refusal in refusals:
                logger.warning(f"{refusal}; another one is")
            return snapshot
        if refusals:
            raise refusals[0]
        return None

    def exist(self) -> bool:
        """Whether there are any, here or among the run's artifacts."""
        return any(self._folder.glob("*.safetensors")) or bool(tracking.list_files(self._log.run_id, ARTIFACTS))

    def abandon(self) -> None:
        """Saves nothing of this training any more: there is nothing to go on with."""
        self._state = None
        self._writer.close()

    def forget(self) -> None:
        """Deletes them, once none is being written: the run has come to its end."""
        self.abandon()
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

    def _save_last(self, error: BaseException) -> None:
        """Saves the state at which an error has ended the training; that error is worth more than one of saving."""
        state = self._state
        if state is None:
            return
        try:
            if state.is_whole:
                self.save(state)
            self.finish_writing()
        except Exception as failure:  # of a disk, or of a GPU that has failed
            if str(failure) != str(error):
                logger.warning(f"The state at which training ended is not saved: {one_line(failure)}")

    def _write(self, snapshot: training.Snapshot) -> None:
        try:
            self._keep(snapshot)
        except BaseException:
            self._saved = NOTHING
            raise
        finally:
            self._clock.end()

    def _keep(self, snapshot: training.Snapshot) -> None:
        path = self._folder / f"step-{snapshot.steps:08}.safetensors"
        try:
            snapshot.write(path)
            _flush(path)
        except OSError as error:
            raise UserError(
                f"{self._folder}: the checkpoint cannot be written ({one_line(error)}): expected "
                f"{expected(error)}; VJEPA_MLFLOW_CACHE names another folder"
            ) from error
        self._log.checkpoint(path, f"{ARTIFACTS}/{path.name}")
        for older in self._folder.glob("step-*.safetensors"):
            if older.name < path.name:
                older.unlink(missing_ok=True)


def _progress(state: training.TrainingState) -> tuple[int, int]:
    return state.steps, len(state.epochs)


def _flush(path: Path) -> None:
    """Has a file outlast the loss of power, before the one that it replaces is deleted."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    with suppress(OSError):  # a file system may not do so for folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
