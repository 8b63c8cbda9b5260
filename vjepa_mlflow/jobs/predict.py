"""Predictions of a logged model for files and folders."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import mlflow
from mlflow.exceptions import MlflowException

from vjepa_mlflow import flavor
from vjepa_mlflow.data import find_videos
from vjepa_mlflow.errors import UserError, one_line
from vjepa_mlflow.flavor.signature import check_num_clips
from vjepa_mlflow.iteration import progress


class PredictionRow(TypedDict):
    """A file's prediction; `error` says why there is none, and is empty where there is one."""

    path: str
    label: str
    score: float | None
    error: str


def predict(
    model_uri: str, paths: Sequence[Path], *, num_clips: int = 1, output: Path | None = None
) -> list[PredictionRow]:
    """Classifies video files with a logged model, one after the other.

    Args:
        model_uri: any MLflow model URI, such as `models:/name/1`.
        paths: video files, and folders that are searched for them.
        num_clips: how many clips of a video to average.
        output: a CSV file that gets each row as soon as it is there.

    Raises:
        UserError: there is no such model, a path is not there, or no video is among them.
    """
    check_num_clips(num_clips)
    videos = _expand(paths)
    served = _load(model_uri)
    rows = []
    with _csv_writer(output) as write:
        for path in progress(videos, total=len(videos), description="Predicting", unit="video"):
            rows.append(_predict_file(served, path, num_clips))
            write(rows[-1])
    return rows


def _load(model_uri: str) -> mlflow.pyfunc.PyFuncModel:
    try:
        return mlflow.pyfunc.load_model(model_uri)
    except (MlflowException, OSError) as error:
        raise UserError(f"{model_uri}: {one_line(error)}: expected a logged model") from error


@contextmanager
def _csv_writer(output: Path | None) -> Iterator[Callable[[PredictionRow], object]]:
    """Gives a function that writes a row to the file at once, or does nothing where there is no file."""
    if output is None:
        yield lambda _: None
        return
    try:
        file = output.open("w", newline="", buffering=1)
    except OSError as error:
        raise UserError(
            f"{output}: cannot be written ({error.strerror}): expected a file in a folder that exists"
        ) from error
    with file:
        writer = csv.DictWriter(file, fieldnames=list(PredictionRow.__annotations__))
        writer.writeheader()
        yield writer.writerow


def _predict_file(served: mlflow.pyfunc.PyFuncModel, path: Path, num_clips: int) -> PredictionRow:
    try:
        answer = served.predict(flavor.example_input(path.read_bytes()), params={"num_clips": num_clips}).iloc[0]
    except (MlflowException, OSError) as error:
        return {"path": str(path), "label": "", "score": None, "error": str(error)}
    return {"path": str(path), "label": answer["label"], "score": answer["score"], "error": ""}


def _expand(paths: Sequence[Path]) -> list[Path]:
    videos = []
    for path in paths:
        if path.is_dir():
            videos += find_videos(path)
        elif path.is_file():
            videos.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    if not videos:
        raise UserError(f"{', '.join(map(str, paths))}: expected at least one video file")
    return videos
