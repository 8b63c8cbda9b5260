"""An MLflow run: joined or started, filled, and ended as it went."""

import csv
import io
import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.data.dataset import Dataset
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from vjepa_mlflow.data import Beginning, VideoDataset, split_rows
from vjepa_mlflow.datasets import dataset_of_split
from vjepa_mlflow.errors import UserError, one_line, reason, remark
from vjepa_mlflow.interrupts import gentle_interrupts
from vjepa_mlflow.tracking.delivery import BATCH, CHECKPOINT, DELETION, FILES, INPUT, TABLE, deliver
from vjepa_mlflow.tracking.outbox import (
    SECONDS_TO_CLOSE,
    End,
    Outbox,
    UndeliveredError,
    locked,
    open_outbox,
    read_address,
    read_end,
)
from vjepa_mlflow.tracking.setting import setting
from vjepa_mlflow.tracking.versions import library_versions

FAILURE_TAG = "vjepa_mlflow.failure"
"""The tag of a failed run that holds the reason, in one line."""

RESUMED_TAG = "vjepa_mlflow.resumed_run"
"""The tag of a run whose work went on in another one: that one's id."""

SPLIT_FILE, LABELS_FILE = "split.csv", "labels.json"
"""The artifacts that say what a run's data is."""

Point = tuple[str, int]
"""A metric's name and a step."""


class RunLog:
    """Writes to one MLflow run by way of an outbox, and the metrics to TensorBoard event files as well.

    Nothing here waits for the tracking server but `deliver`.

    Args:
        run: as it was before.
        outbox: of the run.
        events: the folder of the event files.
        points: metrics that the run has already, which are left alone.

    Attributes:
        params_before: the parameters that it had then.
    """

    def __init__(self, run: Run, outbox: Outbox, events: str, points: set[Point]):
        self.run_id = run.info.run_id
        self.user = str(run.data.tags.get("mlflow.user", "not stated"))
        self.params_before: Mapping[str, str] = run.data.params
        self._outbox = outbox
        self._events = SummaryWriter(events)
        self._events_folder = Path(events)
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

    def figure(self, figure: Figure, name: str, *, step: int) -> bytes:
        """Logs a figure as `name`, a PNG file, whose content is returned."""
        png = _draw(figure)
        self._put(FILES, content=png, name=name)
        width, height = Image.open(io.BytesIO(png)).size
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
        value = Summary.Value(tag=name.removesuffix(".png"), image=image)
        self._events._get_file_writer().add_summary(Summary(value=[value]), step)  # add_image would encode it anew
        return png

    def text(self, text: str, name: str) -> None:
        """Logs a text as the file `name`."""
        self._put(FILES, content=text.encode(errors="surrogateescape"), name=name)

    def data_frame(self, frame: pd.DataFrame, name: str) -> None:
        """Logs a table that MLflow's interface shows and compares, instead of an earlier one of that name."""
        self._put(TABLE, content=frame.to_json(orient="split", double_precision=15).encode(), name=name)

    def table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Logs rows as a CSV file."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.text(text.getvalue(), name)

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
        """Logs what TensorBoard reads as an artifact, with the parameters as a text."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in sorted(self._params.items()))
        self._events.add_text("params", f"| parameter | value |\n|---|---|\n{rows}")
        self._events.close()
        self._put(FILES, content=self._events_folder, name="tensorboard", replace=True)

    def deliver(self) -> None:
        """Waits until the tracking server has everything.

        Raises:
            UndeliveredError: it does not answer, or refuses something.
        """
        error = self._outbox.settle()
        if error is not None:
            raise self.undelivered(error) from error

    def undelivered(self, error: Exception) -> UndeliveredError:
        """The error that says what went wrong, and where everything is that the server has not got."""
        return UndeliveredError(
            f"tracking URI {mlflow.get_tracking_uri()}: it has not taken all of the run ({reason(error)}): nothing "
            f"is lost; once it can be taken: vjepa-mlflow upload {shlex.quote(str(self.folder))}"
        )

    @property
    def folder(self) -> Path:
        """Where things are kept until the server has them; what else is put there stays if it is a folder."""
        return self._outbox.folder

    def _put(self, kind: str, *, content: Path | bytes | None = None, **values: Any) -> None:
        if content is not None or any(values.values()):
            self._outbox.put(kind, values, content)


def _draw(figure: Figure) -> bytes:
    """A figure as a PNG file, laid out and drawn once, where savefig does both twice."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


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


def read_beginning(run_id: str) -> Beginning | None:
    """The data and the checkpoint that a run began with; None where it was stopped before that.

    Raises:
        UserError: what it has cannot be fetched or read.
    """
    try:
        params = MlflowClient().get_run(run_id).data.params
    except MlflowException as error:
        raise UserError(f"run {run_id}: it cannot be read ({one_line(error)})") from error
    if not {SPLIT_FILE, LABELS_FILE} <= set(list_files(run_id, "")) or "checkpoint_revision" not in params:
        return None
    with tempfile.TemporaryDirectory() as folder:
        split, labels = (download(run_id, name, Path(folder)).read_bytes() for name in (SPLIT_FILE, LABELS_FILE))
    return Beginning.read(run_id, split, labels, params)


def list_files(run_id: str, folder: str) -> list[str]:
    """The names of the files in a folder of a run's artifacts.

    Raises:
        UserError: the tracking server does not tell.
    """
    try:
        found = MlflowClient().list_artifacts(run_id, folder)
    except (MlflowException, OSError) as error:
        raise UserError(f"run {run_id}: {folder} cannot be listed ({one_line(error)})") from error
    return [artifact.path.rpartition("/")[2] for artifact in found if not artifact.is_dir]


@contextmanager
def _in_one_go() -> Iterator[None]:
    """Has an interrupt wait for what would else leave a store's tables, or a run that nobody ends, half made."""
    with gentle_interrupts("Stopping once the tracking store has answered; once more stops at once") as stopping:
        yield
        if stopping():
            raise KeyboardInterrupt


def wake_tracking() -> None:
    """Asks the tracking store for something, so that its first use, which makes tables, is behind us.

    Raises:
        UserError: it does not answer as one.
    """
    try:
        with _in_one_go():
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
        UndeliveredError: it did at first, and has not got everything.
    """
    joined = mlflow.active_run() is not None
    run = mlflow.active_run() or _start_run()
    with open_log(run.info.run_id, owned=not joined) as log:
        yield log


@contextmanager
def resumed_log(run_id: str) -> Iterator[RunLog]:
    """Goes on in an earlier run, which ends here as in `run_log`.

    A run that is active, or that `mlflow run` prepared, stays the outer one, and names the resumed one in a tag.

    Raises:
        UserError: the tracking server does not answer as one, or has no such run.
        UndeliveredError: it did at first, and has not got everything.
    """
    with ExitStack() as outer:
        if mlflow.active_run() is not None or os.environ.get("MLFLOW_RUN_ID"):
            outer.enter_context(run_log()).tags({RESUMED_TAG: run_id})
        run = _start_run(run_id)
        if FAILURE_TAG in run.data.tags:
            MlflowClient().delete_tag(run_id, FAILURE_TAG)
        with open_log(run_id, owned=True, continued=True) as log:
            yield log


@contextmanager
def left_log(folder: Path) -> Iterator[RunLog]:
    """Goes on with what a run could not deliver: all of it is delivered in the end, the run ended, the folder deleted.

    Args:
        folder: that `RunLog.undelivered` named.

    Raises:
        UserError: it is none, a process is at work in it, or the tracking server does not answer or has no such run.
        UndeliveredError: the server has still not got everything.
    """
    address = read_address(folder)
    with locked(folder) as free, tempfile.TemporaryDirectory() as events:
        if not free:
            raise UserError(f"{folder}: another process delivers it: expected a run that has ended")
        mlflow.set_tracking_uri(address.tracking_uri)
        try:
            run = MlflowClient().get_run(address.run_id)
        except MlflowException as error:
            raise UserError(f"tracking URI {address.tracking_uri}: it does not answer: {one_line(error)}") from error
        outbox = Outbox(folder, address.run_id, partial(deliver, address.run_id))
        try:
            log = RunLog(run, outbox, events, set())
            yield log
            log.deliver()
        finally:
            outbox.close()
        _end_left_run(address.run_id, read_end(folder))
    shutil.rmtree(folder)


def _end_left_run(run_id: str, end: End | None) -> None:
    client = MlflowClient()
    if end is None:  # its end was its owner's
        return
    if end.status == "FINISHED" and FAILURE_TAG in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, FAILURE_TAG)
    client.set_terminated(run_id, end.status, end.end_time)


def _start_run(run_id: str | None = None) -> mlflow.ActiveRun:
    before = mlflow.active_run()
    try:
        with _in_one_go():
            return mlflow.start_run(run_id=run_id, nested=run_id is not None, log_system_metrics=True)
    except MlflowException as error:
        raise UserError(
            f"tracking URI {mlflow.get_tracking_uri()}: no run can be started: {one_line(error)}"
        ) from error
    except KeyboardInterrupt as interrupt:
        if mlflow.active_run() is not before:  # which MLflow would end as FINISHED
            _end_run(_status(interrupt))
        raise


@contextmanager
def open_log(run_id: str, *, owned: bool = False, continued: bool = False) -> Iterator[RunLog]:
    """Gives what writes to a run, and has everything delivered afterwards, however the block ends.

    Args:
        run_id: the run's.
        owned: whether the run, the active one, is to be ended.
        continued: whether the run has been written to before.

    Raises:
        UndeliveredError: the server has not got everything.
    """
    failure: BaseException | None = None
    with ExitStack() as opened:
        try:
            outbox = opened.enter_context(open_outbox(run_id, partial(deliver, run_id)))
            outbox.settle()  # what a killed process left is there before we look what is there
            run = MlflowClient().get_run(run_id)
            points = _points(run) if continued else set()
            log = RunLog(run, outbox, opened.enter_context(tempfile.TemporaryDirectory()), points)
        except BaseException as error:
            if owned:
                _end_run(_status(error))
            raise
        try:
            log.params(library_versions())
            yield log
            log.events()
        except BaseException as error:
            failure = error
            _log_failure(log, error)
            raise
        finally:
            _end(log, outbox, failure, owned=owned)


def _log_failure(log: RunLog, error: BaseException) -> None:
    tags = {} if isinstance(error, UndeliveredError) else {FAILURE_TAG: one_line(error)}
    try:
        log.tags(tags)
        log.events()
    except UserError:  # the outbox's disk is full; the first error is worth more than this one
        with suppress(MlflowException):
            for tag, value in tags.items():
                MlflowClient().set_tag(log.run_id, tag, value)


def _points(run: Run) -> set[Point]:
    """The metrics that a run has, but for those of the system, which MLflow counts on by itself."""
    client = MlflowClient()
    names = [name for name in run.data.metrics if not name.startswith("system/")]
    return {(name, point.step) for name in names for point in client.get_metric_history(run.info.run_id, name)}


def _end(log: RunLog, outbox: Outbox, failure: BaseException | None, *, owned: bool) -> None:
    """Has everything delivered and ends the run, or leaves both to `vjepa-mlflow upload`."""
    status = _status(failure)
    try:
        error = outbox.settle() or (failure if isinstance(failure, UndeliveredError) else None)
        if error is None:
            error = _end_run(status) if owned else None
    except KeyboardInterrupt:
        error = InterruptedError("interrupted before it had")
    if error is None:
        return
    outbox.close()
    if owned:
        outbox.leave_end(status)
        seconds = str(SECONDS_TO_CLOSE)
        with setting(MLFLOW_HTTP_REQUEST_MAX_RETRIES.name, "0"), setting(MLFLOW_HTTP_REQUEST_TIMEOUT.name, seconds):
            with suppress(MlflowException, KeyboardInterrupt):
                MlflowClient().set_tag(log.run_id, FAILURE_TAG, reason(error))
            if _is_active(log.run_id):
                with suppress(KeyboardInterrupt):
                    _end_run("FAILED")  # without an answer it is the active one no more all the same
    undelivered = log.undelivered(error)
    if failure is None:
        raise KeyboardInterrupt(str(undelivered)) if isinstance(error, InterruptedError) else undelivered from error
    if not isinstance(failure, UndeliveredError):  # which says it already
        remark(str(undelivered))


def _status(failure: BaseException | None) -> str:
    if failure is None or isinstance(failure, UndeliveredError):
        return "FINISHED"
    return "KILLED" if isinstance(failure, KeyboardInterrupt) else "FAILED"


def _is_active(run_id: str) -> bool:
    run = mlflow.active_run()
    return run is not None and run.info.run_id == run_id


def _end_run(status: str) -> Exception | None:
    try:
        mlflow.end_run(status)
    except MlflowException as error:
        return error
    return None


def fail_launched_run(reason: str) -> None:
    """Marks the run that `mlflow run` prepared for this process as failed, where there is one."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id:
        with suppress(MlflowException):
            client = MlflowClient()
            client.set_tag(run_id, FAILURE_TAG, reason)
            client.set_terminated(run_id, "FAILED")
