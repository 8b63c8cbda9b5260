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
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.data.dataset import Dataset
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from vjepa_mlflow.data import SPLITS, VideoDataset
from vjepa_mlflow.datasets import dataset_of_split
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
        self._params: dict[str, str] = {}

    def params(self, values: Mapping[str, Any]) -> None:
        """Logs the parameters that the run does not have yet: `mlflow run` logs its own before any code starts."""
        known = self._client.get_run(self.run_id).data.params
        mlflow.log_params({name: value for name, value in values.items() if name not in known}, run_id=self.run_id)
        self._params |= {name: str(value) for name, value in values.items()}

    def metrics(
        self, values: Mapping[str, float], *, step: int, model_id: str | None = None, dataset: Dataset | None = None
    ) -> None:
        """Logs metrics, of a logged model and of a data set where they are named."""
        mlflow.log_metrics(dict(values), step=step, run_id=self.run_id, model_id=model_id, dataset=dataset)
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def figure(self, figure: Figure, name: str, *, step: int) -> bytes:
        """Logs a figure as `name`, a PNG file, whose content is returned."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(buffer.getvalue())
            self.file(path)
        with Image.open(buffer) as image:
            self._events.add_image(name.removesuffix(".png"), np.asarray(image.convert("RGB")), step, dataformats="HWC")
        return buffer.getvalue()

    def text(self, text: str, name: str) -> None:
        """Logs a text as the file `name`."""
        self._client.log_text(self.run_id, text, name)

    def data_frame(self, frame: pd.DataFrame, name: str) -> None:
        """Logs a table that MLflow's interface shows and compares, instead of an earlier one of that name."""
        run = self._client.get_run(self.run_id)
        if any(artifact.path == name for artifact in self._client.list_artifacts(self.run_id)):
            get_artifact_repository(run.info.artifact_uri).delete_artifacts(name)  # MLflow would append to it
        self._client.log_table(self.run_id, frame, name)

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
        for split, samples in dataset.splits.items():
            self.input(dataset_of_split(samples, data, split), context=split)

    def input(self, dataset: Dataset, *, context: str) -> None:
        """Logs a dataset input, also while another run logs the same data set for the first time.

        MLflow looks whether it has the data set and then adds it. Of two that do so at once one fails, and finds it
        there the second time.
        """
        try:
            mlflow.log_input(dataset, context=context)
        except MlflowException:
            mlflow.log_input(dataset, context=context)

    def file(self, path: Path) -> None:
        """Logs a file under its own name."""
        self._client.log_artifact(self.run_id, str(path))

    def tags(self, values: Mapping[str, Any]) -> None:
        self._client.log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in values.items()])

    def user(self) -> str:
        """Whose run it is."""
        return str(self._client.get_run(self.run_id).data.tags.get("mlflow.user", "not stated"))

    def logged_steps(self, metric: str) -> set[int]:
        """The steps at which the run has this metric already."""
        return {point.step for point in self._client.get_metric_history(self.run_id, metric)}

    def events(self) -> None:
        """Logs what TensorBoard reads as an artifact, with the parameters as a text."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in sorted(self._params.items()))
        self._events.add_text("params", f"| parameter | value |\n|---|---|\n{rows}")
        self._events.close()
        self._client.log_artifacts(self.run_id, self._events_folder, "tensorboard")


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
