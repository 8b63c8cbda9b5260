"""What a served model does: video files in, labels out."""

import base64
import binascii
import logging
import re
import sys
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from torch import Tensor
from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow.cpus import thread_count, usable_cpus
from vjepa_mlflow.flavor.batching import Batcher
from vjepa_mlflow.flavor.clip_classifier import ClipClassifier
from vjepa_mlflow.flavor.config import ServingConfig
from vjepa_mlflow.flavor.server import OUR_FAULT, PredictionError
from vjepa_mlflow.flavor.signature import BAD_VIDEOS, COLUMNS, DEFAULT_PARAMS, MAX_CLIPS, check_answers
from vjepa_mlflow.flavor.spark import task_cpus
from vjepa_mlflow.iteration import batches, map_ahead
from vjepa_mlflow.model import label_names, use_device
from vjepa_mlflow.video import Decoders, Sampling, VideoError, clip_positions

AHEAD = 2
"""Clips for each decoder, and for each place in a batch, that are worked on before they are wanted."""

EXPECTED = "expected the content of a video file"
_TEXT = re.compile(rb"[\s!-~]*")

logger = logging.getLogger(__name__)


class Classification(NamedTuple):
    """What a model says of a video.

    Attributes:
        probabilities: of the classes, averaged over the video's clips; None where it cannot be read.
        warning: what is wrong with the video all the same; empty if nothing is.
        error: why it cannot be read; empty where it can.
    """

    probabilities: np.ndarray | None
    warning: str = ""
    error: str = ""


class VideoClassifier:
    """A classifier behind `mlflow.pyfunc`, for any number of threads."""

    def __init__(
        self,
        model: VJEPA2ForVideoClassification,
        processor: VJEPA2VideoProcessor,
        *,
        sampling: Sampling,
        config: ServingConfig,
    ):
        self._labels = label_names(model.config)
        decoders = config.decoders or task_cpus() or usable_cpus()
        self._ahead = AHEAD * max(decoders, config.batch_size)
        in_spark = task_cpus() is not None  # whose videos are those of whoever runs it
        self._decoders = Decoders(decoders, sampling, config.limits.for_own_files() if in_spark else config.limits)
        self._max_videos = sys.maxsize if in_spark else config.max_videos
        classify = ClipClassifier(
            model.to(use_device(config.device)),
            processor,
            precision=config.precision,
            batch_size=config.batch_size,
            threads=task_cpus() or thread_count(),
        )
        self._batcher: Batcher[Tensor, Tensor] = Batcher(classify, size=classify.batch_size)
        weakref.finalize(self, self._batcher.close)

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classifies video files.

        Args:
            model_input: a column `video` of file contents, as bytes or as base64 text.
            params: see `flavor.signature`.

        Returns:
            A row for each video: `label`, `score` (the label's probability), `top_k` (pairs of label and score),
            `warning` (of a video that is cut off or damaged) and `error` (of one that cannot be read); words that there
            are not are empty, since Spark has no other way.

        Raises:
            PredictionError: the request is at fault and is answered 400, or the model is and answers 500.
        """
        try:
            return self._predict(model_input, params or {})
        except PredictionError:
            raise
        except Exception:
            logger.exception("A prediction failed")
            raise PredictionError(OUR_FAULT, INTERNAL_ERROR) from None

    def _predict(self, model_input: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        top_k = _at_least_one("top_k", params)
        num_clips = _at_least_one("num_clips", params)
        if num_clips > MAX_CLIPS:
            raise PredictionError(f"num_clips={num_clips}: expected at most {MAX_CLIPS}.")
        bad_videos = _param("bad_videos", params)
        if bad_videos not in BAD_VIDEOS:
            raise PredictionError(f"bad_videos={bad_videos}: expected one of {', '.join(BAD_VIDEOS)}.")
        contents = _contents(model_input, at_most=self._max_videos)
        rows = []
        for number, found in enumerate(self.classify(contents, num_clips=num_clips), start=1):
            if found.error and bad_videos == "stop":
                raise PredictionError(f"Video {number} of {len(contents)} was refused: {found.error}.")
            rows.append(self.row(found, top_k=top_k))
        return pd.DataFrame(rows, columns=COLUMNS, dtype=object)

    def classify(self, videos: Iterable[Path | bytes | VideoError], *, num_clips: int) -> Iterator[Classification]:
        """Says of each video in turn what it shows, while the next ones are decoded; takes few of them ahead.

        Args:
            videos: files, contents of files, or why there is none.
            num_clips: how many clips of a video to average.
        """
        wanted = ((video, position) for video in videos for position in clip_positions(num_clips))
        clips = map_ahead(self._begin, wanted, ahead=self._ahead)
        for of_a_video in batches(clips, num_clips):
            yield _average(of_a_video)

    def _begin(self, wanted: tuple[Path | bytes | VideoError, float]) -> "_Clip | VideoError":
        """Decodes a clip and hands it on to be classified."""
        video, position = wanted
        try:
            if isinstance(video, VideoError):
                raise video
            reading = self._decoders.read(video, position)
        except VideoError as error:
            return error
        return _Clip(self._batcher.submit(torch.from_numpy(reading.clip)), reading.warning)

    def row(self, found: Classification, *, top_k: int) -> dict[str, Any]:
        """What is said of a video, by the names of `flavor.signature.COLUMNS`.

        Raises:
            UserError: the model's answer is no number.
        """
        said = {"warning": found.warning, "error": found.error}
        if found.probabilities is None:
            return {"label": "", "score": None, "top_k": [], **said}
        check_answers(found.probabilities)
        best = np.argsort(-found.probabilities, kind="stable")[:top_k]
        pairs = [{"label": self._labels[index], "score": float(found.probabilities[index])} for index in best]
        return {**pairs[0], "top_k": pairs, **said}


class _Clip(NamedTuple):
    probabilities: "Future[Tensor]"
    warning: str


def _average(clips: "list[_Clip | VideoError]") -> Classification:
    probabilities = []
    for clip in clips:
        if isinstance(clip, VideoError):
            return Classification(None, error=str(clip))
        probabilities.append(clip.probabilities.result())
    warnings = [clip.warning for clip in clips if isinstance(clip, _Clip)]
    return Classification(torch.stack(probabilities).mean(dim=0).numpy(), warning=max(warnings))


def _param(name: str, params: dict[str, Any]) -> Any:
    value = params.get(name)
    return DEFAULT_PARAMS[name] if value is None else value


def _at_least_one(name: str, params: dict[str, Any]) -> int:
    value = int(_param(name, params))
    if value < 1:
        raise PredictionError(f"{name}={value}: expected a whole number of at least 1.")
    return value


def _contents(model_input: pd.DataFrame, *, at_most: int) -> list[bytes | VideoError]:
    if "video" not in model_input or model_input.empty:
        raise PredictionError("Expected at least one row with a column 'video' that holds a video file.")
    if len(model_input) > at_most:
        raise PredictionError(f"The request holds {len(model_input)} videos: expected at most {at_most} (max_videos).")
    return [_content(value) for value in model_input["video"]]


def _content(value: Any) -> bytes | VideoError:
    """Returns a file's content. The scoring server decodes base64 in some forms of payload and not in others."""
    if isinstance(value, str):
        value = value.encode(errors="replace")
    if not isinstance(value, bytes | bytearray):
        return VideoError(f"it is of type {type(value).__name__}: {EXPECTED}")
    if not value:
        return VideoError(f"it is empty: {EXPECTED}")
    if _TEXT.fullmatch(value[:64]) is None:
        return bytes(value)  # no format of video begins with so many printable characters
    try:
        return base64.b64decode(b"".join(value.split()), validate=True)
    except binascii.Error:
        return VideoError(f"it is text that is not base64: {EXPECTED} in base64")
