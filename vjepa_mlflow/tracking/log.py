"""What a job logs to its run."""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.data.dataset import Dataset
from mlflow.entities import Run

from vjepa_mlflow.data import VideoDataset, split_rows
from vjepa_mlflow.datasets import dataset_of_split
from vjepa_mlflow.files.temporary import lack_of_room
from vjepa_mlflow.terminal.columns import csv_row
from vjepa_mlflow.tracking.answers import describe
from vjepa_mlflow.tracking.delivery import BATCH, CHECKPOINT, DELETION, FILES, INPUT, TABLE
from vjepa_mlflow.tracking.events import Events
from vjepa_mlflow.tracking.first_answer import server
from vjepa_mlflow.tracking.outbox import Outbox
from vjepa_mlflow.tracking.undelivered import DamagedError, UndeliveredError

SPLIT_FILE, LABELS_FILE = "split.csv", "labels.json"
"""The artifacts that say what a run's data is."""

HEAD_FILE = "head.safetensors"
"""The artifact that holds the best head of a trial, or of a run whose loss is no number any more."""

Point = tuple[str, int]
"""A metric's name and a step."""


class RunLog:
    """Writes to one MLflow run by way of an outbox, and the metrics to TensorBoard event files as well.

    Nothing here waits for the tracking server but `deliver`.

    Args:
        run: as it was before.
        outbox: of the run.
        points: metrics that the run has already, which are left alone.
        continued: whether the job has been at work in the run before.
        owned: whether the run ends with the job.

    Attributes:
        continued: as above.
        params_before: the parameters that it had then.
    """

    def __init__(self, run: Run, outbox: Outbox, points: set[Point], *, continued: bool = False, owned: bool = False):
        self._owned = owned
        self.continued = continued
        self.run_id = run.info.run_id
        self.user = str(run.data.tags.get("mlflow.user", "not stated"))
        self.params_before: Mapping[str, str] = run.data.params
        self._outbox = outbox
        self._events = Events()
        self._has_events = False  # whether the event file has been logged as it is now
        self._points = points
        self._params: dict[str, str] = {}

    def params(self, values: Mapping[str, Any]) -> None:
        """Logs the parameters that the run does not have yet."""
        texts = {name: str(value) for name, value in values.items()}
        self._put(BATCH, params=texts)
        self._params |= texts

    def metrics(
        self, values: Mapping[str, float], *, step: int, model_id: str | None = None, dataset: Dataset | None = None
    ) -> None:
        """Logs the metrics that a run which goes on does not have at this step yet.

        Args:
            values: by name.
            step: such as an epoch.
            model_id: of the logged model that they are of.
            dataset: that they were found on.
        """
        about = {
            "timestamp": int(time.time() * 1000),
            "step": step,
            "model_id": model_id,
            "dataset_name": dataset and dataset.name,
            "dataset_digest": dataset and dataset.digest,
        }
        new = {name: value for name, value in values.items() if (name, step) not in self._points}
        self._put(BATCH, metrics=[{"key": name, "value": float(value), **about} for name, value in new.items()])
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._has_events = False

    def png(self, content: bytes, name: str, *, step: int) -> None:
        """Logs a PNG file as `name`."""
        self._put(FILES, content=content, name=name)
        self._events.add_png(name.removesuffix(".png"), content, step)
        self._has_events = False

    def text(self, text: str, name: str) -> None:
        """Logs a text as the file `name`."""
        self._put(FILES, content=text.encode(errors="surrogateescape"), name=name)

    def data_frame(self, frame: pd.DataFrame, name: str) -> None:
        """Logs a table that MLflow's interface shows and compares, instead of an earlier one of that name."""
        self._put(TABLE, content=table_json(frame), name=name)

    def table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Logs rows as a CSV file."""
        self.text("".join(csv_row(values) for values in [list(rows[0]), *(row.values() for row in rows)]), name)

    def dataset(self, dataset: VideoDataset, *, data: str) -> None:
        """Logs the classes and the exact split as artifacts, and each set as a dataset input of the run.

        Args:
            dataset: the three sets.
            data: the folder or table they come from, or `demo`.
        """
        self.table(list(split_rows(dataset)), SPLIT_FILE)
        self.text(json.dumps(dict(enumerate(dataset.labels)), indent=2), LABELS_FILE)
        counts = {f"{split}_videos": len(samples) for split, samples in dataset.splits.items()}
        drawing = {
            "drawn_splits": ",".join(dataset.drawn) or "none",
            "split_seed": dataset.seed,
            "training_order": dataset.order,
        }
        self.params({"num_classes": len(dataset.labels), **drawing, **counts})
        for split, samples in dataset.splits.items():
            self.input(dataset_of_split(samples, data, split), context=split)

    def input(self, dataset: Dataset, *, context: str) -> None:
        """Logs a dataset input."""
        self._put(INPUT, dataset=dataset.to_dict(), context=context)

    def file(self, path: Path) -> None:
        """Logs a file under its own name. It is not to be changed afterwards, only replaced."""
        self._put(FILES, content=path, name=path.name)

    def checkpoint(self, path: Path, name: str) -> None:
        """Logs a file as the artifact `name`, the only one in its folder, instead of those that were to be logged."""
        self._outbox.discard(CHECKPOINT)
        self._put(CHECKPOINT, content=path, name=name)

    def forget_checkpoints(self, folder: str) -> None:
        """Deletes the checkpoints in a folder of artifacts: they are needed no more."""
        self._outbox.discard(CHECKPOINT)
        self._put(DELETION, name=folder)

    def tags(self, values: Mapping[str, Any]) -> None:
        self._put(BATCH, tags={name: str(value) for name, value in values.items()})

    def events(self) -> None:
        """Logs what TensorBoard reads as an artifact, with the parameters as a text, unless that was just done."""
        if self._has_events:
            return
        rows = "\n".join(f"| {name} | {value} |" for name, value in sorted(self._params.items()))
        self._events.add_text("params", f"| parameter | value |\n|---|---|\n{rows}")
        self._put(FILES, content=self._events.content(), name=f"tensorboard/{self._events.name}", replace=True)
        self._has_events = True

    def deliver(self) -> None:
        """Waits until the tracking server has everything.

        Raises:
            UndeliveredError: it does not answer, or refuses something.
        """
        error = self._outbox.flush()
        if error is not None:
            raise self.undelivered(error) from error

    def undelivered(self, error: Exception) -> UndeliveredError:
        """The error that says what went wrong, and where everything is that the server has not got."""
        if isinstance(error, DamagedError):
            return error
        full = lack_of_room(error)
        why = full or f"{server()}: it has not taken all of the run ({describe(error, self.run_id)})"
        return UndeliveredError(
            f"{why}: nothing is lost; once it can be taken: vjepa-mlflow upload {shlex.quote(str(self.folder))}"
        )

    def leave_end(self) -> None:
        """Notes that the job has come to its end, for whoever delivers the rest and ends the run."""
        if self._owned:
            self._outbox.leave_end("FINISHED")

    @property
    def folder(self) -> Path:
        """Where things are kept until the server has them; what else is put there stays if it is a folder."""
        return self._outbox.folder

    def _put(self, kind: str, *, content: Path | bytes | None = None, **values: Any) -> None:
        if content is not None or any(values.values()):
            self._outbox.put(kind, values, content)


def table_json(frame: pd.DataFrame) -> bytes:
    """A table as MLflow's interface reads it."""
    text: str = frame.to_json(orient="split", index=False, double_precision=15)
    return text.encode()
