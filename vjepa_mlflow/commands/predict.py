"""Predictions of a logged model for files and folders."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vjepa_mlflow import data, flavor
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.files.paths import check_local, is_there, shortened
from vjepa_mlflow.files.temporary import own_temporaries
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.runtime.forks import check_fork
from vjepa_mlflow.runtime.interrupts import gentle_interrupts
from vjepa_mlflow.runtime.iteration import progress
from vjepa_mlflow.runtime.ranks import check_alone
from vjepa_mlflow.stages.prediction_files import PredictionFile, PredictionRow, path_in_row

logger = get_logger(__name__)

if TYPE_CHECKING:
    from vjepa_mlflow.flavor.video_classifier import Classification, VideoClassifier


class PredictionCounts(NamedTuple):
    """Of a file of predictions.

    Attributes:
        present: rows that it held before.
        added: rows that were added.
        errors: of these, those of videos that cannot be read.
    """

    present: int
    added: int
    errors: int


def predict(model_uri: str, paths: Sequence[str | Path], *, num_clips: int = 1) -> Iterator[PredictionRow]:
    """Classifies video files with a logged model: yields a row for each in turn, while the next ones are decoded.

    Args:
        model_uri: any MLflow model URI, such as `models:/name/1`.
        paths: video files, and folders that are searched for them.
        num_clips: how many clips of a video to average.

    Raises:
        UserError: there is no such model, a path is not there, or no video is among them.
    """
    check_alone("predict")
    check_fork("predict")
    flavor.check_num_clips(num_clips)
    files = [Path(path) for path in paths]
    total = _count_videos(files)
    with own_temporaries(), _loaded(model_uri) as model:
        yield from _predict(model, files, num_clips, total=total, known=set())


@own_temporaries()
def predict_to_file(
    model_uri: str, paths: Sequence[str | Path], output: Path, *, num_clips: int = 1
) -> PredictionCounts:
    """Like `predict`, into a file. What it holds already stays, and is not predicted again.

    Args:
        model_uri: any MLflow model URI.
        paths: video files and folders.
        output: see `PredictionFile`.
        num_clips: how many clips of a video to average.

    Raises:
        UserError: as `predict`, or the file cannot be written, or holds something else.
        KeyboardInterrupt: it was asked to stop; the same call goes on.
    """
    check_alone("predict")
    check_fork("predict")
    flavor.check_num_clips(num_clips)
    files = [Path(path) for path in paths]
    total = _count_videos(files)
    added = errors = 0
    with (
        _loaded(model_uri) as model,
        closing(PredictionFile(output, model=model.name, num_clips=num_clips)) as file,
        gentle_interrupts() as asked_to_stop,
    ):
        present = len(file.paths)
        for row in _predict(model, files, num_clips, total=total, known=file.paths):
            file.append(row)
            added += 1
            errors += bool(row["error"])
            if asked_to_stop():
                raise KeyboardInterrupt(
                    f"interrupted: {present + added} predictions in {output}; the same command goes on"
                )
    return PredictionCounts(present, added, errors)


class _Model(NamedTuple):
    classifier: VideoClassifier
    name: str


@contextmanager
def _loaded(model_uri: str) -> Iterator[_Model]:
    fetched = flavor.fetch_model(model_uri)
    with flavor.make_video_classifier(fetched) as classifier:
        yield _Model(classifier, fetched.model_id or fetched.model_uuid or model_uri)


def _count_videos(paths: Sequence[Path]) -> int:
    """How many there are; refuses what is not there, and says what in the folders is not taken for a video."""
    listing = data.Listing()
    for path in paths:
        check_local("path", str(path))
        if not is_there(path):
            raise UserError(f"{shortened(str(path))}: no such file or folder")
    total = sum(1 for _ in _expand(paths, listing))
    if not total:
        raise UserError(f"{', '.join(map(str, paths))}: expected at least one video file")
    for line in listing.describe_left_out():
        logger.warning(f"Left out: {line}")
    return total


def _expand(paths: Sequence[Path], listing: data.Listing | None = None) -> Iterator[Path]:
    for path in paths:
        yield from data.find_videos(path, listing) if path.is_dir() else (path,)


def _predict(
    model: _Model, paths: Sequence[Path], num_clips: int, *, total: int, known: set[str]
) -> Iterator[PredictionRow]:
    """Rows for the videos below some paths, one for each that is not known yet; the others become so."""
    waiting: deque[str] = deque()

    def videos() -> Iterator[Path]:
        for path in progress(_expand(paths), total=total, description="Predicting", unit="video"):
            if (name := path_in_row(path)) not in known:
                known.add(name)
                waiting.append(name)
                yield path

    for classification in model.classifier.classify(videos(), num_clips=num_clips):
        yield _row(waiting.popleft(), classification, model, num_clips)


def _row(path: str, classification: Classification, model: _Model, num_clips: int) -> PredictionRow:
    try:
        row = model.classifier.row(classification, top_k=1)
    except UserError as error:
        raise UserError(f"{model.name}: {path}: {error}") from None
    return {
        "path": path,
        "label": row["label"],
        "score": row["score"],
        "warning": row["warning"],
        "error": row["error"],
        "model": model.name,
        "num_clips": num_clips,
    }
