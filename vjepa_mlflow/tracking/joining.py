"""Whose run a job is logged to: a run that is joined takes one job of ours, and each further one gets its own."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.files.cache import own_folder
from vjepa_mlflow.files.digest import sha256_of_text
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.secrets import without_passwords
from vjepa_mlflow.tracking.first_answer import server
from vjepa_mlflow.tracking.signs_of_life import is_worked_at

logger = get_logger(__name__)

JOB_TAG = "vjepa_mlflow.job"
"""The tag of a run that says what of ours it holds: train, sweep or evaluate."""

KEY_TAG = "vjepa_mlflow.job_key"
"""The tag that tells such a job from others of its kind: by it a job that was killed is recognised."""

STATUS_TAG = "vjepa_mlflow.job_status"
"""The tag of a run whose end is somebody else's: how far the job in it has come, in MLflow's words for runs."""

RECORD = "recipe.yaml"
"""The artifact that says what a training or an evaluation was to do."""

LIVE = ("RUNNING", "SCHEDULED")
"""Statuses of runs that somebody is to end."""

OLDER = "version_vjepa_mlflow"
"""A parameter of all runs of ours, also of those that older versions logged, which had no tags for jobs."""


@dataclass(frozen=True)
class Job:
    """What is done in a run.

    Attributes:
        name: train, sweep or evaluate.
        key: the same for the same job done again.
        file: the artifact that says what is to be done.
        record: its text.
    """

    name: str
    key: str
    file: str
    record: str

    @classmethod
    def of(cls, name: str, definition: Mapping[str, object], values: Mapping[str, object]) -> Job:
        """A job by what must be the same where it goes on, and all values of it, which its run keeps."""
        key = sha256_of_text(json.dumps(definition, sort_keys=True, default=str))[:16]
        return cls(
            name, key, RECORD, without_passwords(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))
        )

    @property
    def tags(self) -> dict[str, str]:
        return {JOB_TAG: self.name, KEY_TAG: self.key}


@dataclass(frozen=True)
class Surrounding:
    """The run that a job finds itself in.

    Attributes:
        run: the active one, or the one that `MLFLOW_RUN_ID` names, or one that goes on.
        is_active: whether it is the active one, or somebody else's in another way.
        resumed: whether it is one that goes on, and was the job's own.
    """

    run: Run
    is_active: bool
    resumed: bool = False

    @property
    def run_id(self) -> str:
        return str(self.run.info.run_id)

    @property
    def is_for_us_to_end(self) -> bool:
        """Whether it goes on, or was prepared for this process, as `mlflow run` does, and has not ended before."""
        return self.resumed or (not self.is_active and self.run.info.status in LIVE)

    @property
    def is_free(self) -> bool:
        """Whether it holds no job of ours."""
        return JOB_TAG not in self.run.data.tags and OLDER not in self.run.data.params

    def is_free_for(self, job: Job) -> bool:
        """Whether it holds no job of ours, or this one, which was killed."""
        return self.is_free or (
            self.holds(job) and job_status(self.run) in LIVE and not is_worked_at(self.run, job_status(self.run))
        )

    def holds(self, job: Job) -> bool:
        """Whether the job was done in it before."""
        return job.tags.items() <= self.run.data.tags.items()


@contextmanager
def one_at_a_time(run_id: str) -> Iterator[None]:
    """Has the processes of this machine look whether a run is free one by one, each until it says what it holds."""
    try:
        path = own_folder("joining") / run_id
        file = _hold(path, f"Run {run_id}: another process is just joining it: waiting until it has")
    except (OSError, UserError):  # of which the outbox, for which there is no place then, will tell
        yield
        return
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: who waits for it finds it gone, and takes another


def _hold(path: Path, message: str) -> TextIO:
    """Opens a file and locks it, as it is at this path."""
    while True:
        file = path.open("a")
        with suppress(OSError):  # a file system may have no locks
            _lock(file, message)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _lock(file: TextIO, message: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.warning(message)
        fcntl.flock(file, fcntl.LOCK_EX)


def surrounding_run() -> Surrounding | None:
    """The active run, or the one that `MLFLOW_RUN_ID` names; None where there is neither.

    Raises:
        UserError: the tracking server has no such run, or it was deleted.
    """
    active = mlflow.active_run()
    run_id = active.info.run_id if active else os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    named = "the active run" if active else "MLFLOW_RUN_ID"
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        raise UserError(f"{server()}: {named}={run_id}: {one_line(error)}: expected a run that is there") from error
    if run.info.lifecycle_stage == "deleted":
        raise UserError(f"{named}={run_id}: it was deleted: expected a run that is there")
    return Surrounding(run, is_active=active is not None)


def job_status(run: Run) -> str:
    """How far the job in a run has come: FINISHED also where the run is somebody else's, and goes on."""
    return str(run.data.tags.get(STATUS_TAG, run.info.status))
