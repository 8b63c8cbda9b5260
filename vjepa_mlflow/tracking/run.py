"""An MLflow run: joined or started, filled, and ended as it went."""

import csv
import io
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.data.dataset import Dataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException
from torch.utils.tensorboard import SummaryWriter

from vjepa_mlflow.data import SPLITS, VideoDataset, locate_data
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.tracking.versions import library_versions

FAILURE_TAG = "vjepa_mlflow.failure"
"""The tag of a failed run that holds the reason, in one line."""

RESUMED_TAG = "vjepa_mlflow.resumed_run"
"""The tag of a run whose work went on in another one: that one's id."""


class RunLog:
    """Writes to one MLflow run, and the metrics to TensorBoard event files as well."""

    def __init__(self, run_id: str, events: str):
        self.run_id = run_id
        self._client = MlflowClient()
        self._events = SummaryWriter(events)
        self._events_folder = events

    def params(self, values: Mapping[str, Any]) -> None:
        """Logs the parameters that the run does not have yet: `mlflow run` logs its own before any code starts."""
        known = self._client.get_run(self.run_id).data.params
        mlflow.log_params({name: value for name, value in values.items() if name not in known}, run_id=self.run_id)

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        mlflow.log_metrics(dict(values), step=step, run_id=self.run_id)
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def figure(self, figure: Figure, name: str, *, step: int) -> None:
        self._client.log_figure(self.run_id, figure, name)
        self._events.add_figure(name.removesuffix(".png"), figure, step, close=False)

    def table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Logs rows as a CSV file."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self._client.log_text(self.run_id, text.getvalue(), name)

    def dataset(self, dataset: VideoDataset, *, data: str) -> None:
        """Logs the classes and the exact split as artifacts, and each set as a dataset input of the run.

        Args:
            dataset: the three sets.
            data: the folder or table they come from, or `demo`.
        """
        # Given as an object: MLflow has two readings of a path and would warn.
        root = locate_data(data).resolve()
        source = LocalArtifactDatasetSource(str(root))
        rows = [
            {
                "path": sample.name,
                "label": sample.label,
                "split": split,
                "group": sample.group or "",
                "sha256": sample.digest,
            }
            for split in SPLITS
            for sample in dataset.splits[split]
        ]
        self.table(rows, "split.csv")
        self._client.log_dict(self.run_id, dict(enumerate(dataset.labels)), "labels.json")
        counts = {f"{split}_videos": len(samples) for split, samples in dataset.splits.items()}
        self.params({"num_classes": len(dataset.labels), "drawn_splits": ",".join(dataset.drawn) or "none", **counts})
        for split in SPLITS:
            frame = pd.DataFrame([row for row in rows if row["split"] == split])
            videos = mlflow.data.from_pandas(frame, source=source, targets="label", name=f"{root.stem}-{split}")
            _log_input(videos, context=split)

    def file(self, path: Path) -> None:
        """Logs a file under its own name."""
        self._client.log_artifact(self.run_id, str(path))

    def tags(self, values: Mapping[str, Any]) -> None:
        self._client.log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in values.items()])

    def logged_steps(self, metric: str) -> set[int]:
        """The steps at which the run has this metric already."""
        return {point.step for point in self._client.get_metric_history(self.run_id, metric)}

    def events(self) -> None:
        """Logs what TensorBoard reads as an artifact."""
        self._events.close()
        self._client.log_artifacts(self.run_id, self._events_folder, "tensorboard")


def _log_input(dataset: Dataset, *, context: str) -> None:
    """Logs a dataset input of the active run, also while another run logs the same data set for the first time.

    MLflow looks whether it has the data set and then adds it. Of two that do so at once one fails, and finds it there
    the second time.
    """
    try:
        mlflow.log_input(dataset, context=context)
    except MlflowException:
        mlflow.log_input(dataset, context=context)


def download(run_id: str, name: str, folder: Path) -> Path:
    """Fetches a file that a run has as an artifact, and returns where it is in the folder.

    Raises:
        UserError: the run does not have it any more.
    """
    try:
        return Path(MlflowClient().download_artifacts(run_id, name, str(folder)))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"run {run_id}: {name} cannot be fetched ({one_line(error)}): expected it as an artifact"
        ) from error


def wake_tracking() -> None:
    """Asks the tracking store for something, so that its first use, which makes tables, is behind us.

    Raises:
        UserError: it does not answer as one.
    """
    try:
        MlflowClient().search_experiments(max_results=1)
    except MlflowException as error:
        raise UserError(f"tracking URI {mlflow.get_tracking_uri()}: it does not answer: {one_line(error)}") from error


@contextmanager
def run_log() -> Iterator[RunLog]:
    """Joins the active run, or the one that `mlflow run` prepared, or starts one.

    A run that was started here ends here: FINISHED, FAILED with the reason as a tag, or KILLED. A run that was joined
    is only tagged; its end is its owner's.

    Raises:
        UserError: the tracking server does not answer as one.
    """
    joined = mlflow.active_run() is not None
    run = mlflow.active_run() or _start_run()
    with _ending(owned=not joined), open_log(run.info.run_id) as log:
        yield log


@contextmanager
def resumed_log(run_id: str) -> Iterator[RunLog]:
    """Goes on in an earlier run, which ends here as in `run_log`.

    A run that is active, or that `mlflow run` prepared, stays the outer one, and names the resumed one in a tag.

    Raises:
        UserError: the tracking server does not answer as one, or has no such run.
    """
    with ExitStack() as outer:
        if mlflow.active_run() is not None or os.environ.get("MLFLOW_RUN_ID"):
            outer.enter_context(run_log()).tags({RESUMED_TAG: run_id})
        run = _start_run(run_id)
        with _ending(owned=True), open_log(run.info.run_id) as log:
            if FAILURE_TAG in run.data.tags:
                MlflowClient().delete_tag(run_id, FAILURE_TAG)
            yield log


def _start_run(run_id: str | None = None) -> mlflow.ActiveRun:
    try:
        return mlflow.start_run(run_id=run_id, nested=run_id is not None, log_system_metrics=True)
    except MlflowException as error:
        raise UserError(
            f"tracking URI {mlflow.get_tracking_uri()}: no run can be started: {one_line(error)}"
        ) from error


@contextmanager
def _ending(*, owned: bool) -> Iterator[None]:
    """Tags the active run if the block fails, and ends it if it is ours."""
    try:
        yield
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        with suppress(MlflowException):  # the first error is the one to report
            mlflow.set_tag(FAILURE_TAG, one_line(error))
            if owned:
                mlflow.end_run(status)
        raise
    if owned:
        mlflow.end_run()


@contextmanager
def open_log(run_id: str) -> Iterator[RunLog]:
    """Gives what writes to a run; it has TensorBoard's events as an artifact afterwards, however the block ends."""
    with tempfile.TemporaryDirectory() as events:
        log = RunLog(run_id, events)
        log.params(library_versions())
        try:
            yield log
        finally:
            log.events()


def fail_launched_run(reason: str) -> None:
    """Marks the run that `mlflow run` prepared for this process as failed, where there is one."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id:
        with suppress(MlflowException):
            client = MlflowClient()
            client.set_tag(run_id, FAILURE_TAG, reason)
            client.set_terminated(run_id, "FAILED")
