"""What a loaded model does: video files in, labels out."""

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pandas as pd
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from vjepa_mlflow.bad_videos import STOP
from vjepa_mlflow.flavor.config import ServingConfig
from vjepa_mlflow.flavor.contents import read_contents
from vjepa_mlflow.flavor.engine import Classification, Engine, Video
from vjepa_mlflow.flavor.faults import OUR_FAULT, PredictionError
from vjepa_mlflow.flavor.params import Params
from vjepa_mlflow.flavor.signature import COLUMNS, check_answers
from vjepa_mlflow.model import Preprocessing, choose_device, from_arrays, label_names, to_arrays
from vjepa_mlflow.runtime.asking import Asker
from vjepa_mlflow.video import Sampling

logger = logging.getLogger(__name__)


class VideoClassifier:
    """A classifier behind `mlflow.pyfunc`, for any number of threads.

    It may be pickled, and the process that has it may be forked: decoders, and the model on its device, come into being
    where they are first used, in each process by itself. As a context manager it ends with them.
    """

    def __init__(
        self,
        model: VJEPA2ForVideoClassification,
        preprocessing: Preprocessing,
        *,
        sampling: Sampling,
        config: ServingConfig,
    ):
        if config.device != "auto":  # to ask for which might use a GPU, before a fork that could not use it then
            choose_device(config.device)
        self._made_of = (model, preprocessing, sampling, config)
        self._labels = label_names(model.config)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        _LOADED.add(self)

    def engine(self) -> Engine:
        """What does the work in this process, made if there is none yet.

        Raises:
            UserError: the device is not there, or its memory is too small; or this is a fork of a process that had used
                a GPU.
        """
        with self._lock:
            if self._engine is None:
                model, preprocessing, sampling, config = self._made_of
                self._engine = Engine(model, preprocessing, sampling=sampling, config=config)
            return self._engine

    def __reduce__(self) -> tuple[Any, ...]:
        model, *others = self._made_of
        return _again, (*to_arrays(model), *others)

    def __deepcopy__(self, memo: dict[int, Any]) -> "VideoClassifier":
        return self  # nothing of it ever changes

    def close(self) -> None:
        """Ends what does the work in this process; what is asked of it later has it made again."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __enter__(self) -> "VideoClassifier":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin_anew(self) -> None:
        """In a fork of the process that had it: what does the work is made again when it is needed."""
        if self._engine is not None:
            self._engine.abandon()
        self._begin()

    def get_raw_model(self) -> "VideoClassifier":
        """Itself: what MLflow's `PyFuncModel.get_raw_model` gives out of the model that it has loaded."""
        return self

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classifies video files.

        Args:
            model_input: a column `video` of file contents, as bytes or as base64 text.
            params: see `flavor.signature`.

        Returns:
            A row for each of the input's, with its index: `label`, `score` (the label's probability), `top_k` (pairs of
            label and score), `warning` (of a video that is cut off or damaged) and `error` (of one that cannot be
            read); words that there are not are empty, since Spark has no other way.

        Raises:
            PredictionError: the request is at fault and is answered 400, or the model is and answers 500.
            UserError: see `engine`.
        """
        engine = self.engine()
        try:
            wanted = Params.read(params)
            videos = read_contents(model_input, at_most=engine.max_videos)
            classifications = self.classify(videos, num_clips=wanted.num_clips)
            rows = [
                self.checked_row(one, number, len(videos), wanted)
                for number, one in enumerate(classifications, start=1)
            ]
        except PredictionError:
            raise
        except Exception:
            logger.exception("A prediction failed")
            raise PredictionError(OUR_FAULT, INTERNAL_ERROR) from None
        return pd.DataFrame(rows, columns=COLUMNS, dtype=object, index=model_input.index)

    def classify(self, videos: Iterable[Video], *, num_clips: int) -> Iterator[Classification]:
        """Says of each video in turn what it shows, while the next ones are decoded; takes few of them ahead.

        Args:
            videos: files, contents of files, or why there is none.
            num_clips: how many clips of a video to average.

        Raises:
            UserError: see `engine`.
        """
        engine, asker = self.engine(), Asker(may_be_refused=False)
        waiting: deque[Future[Classification]] = deque()
        with engine.serving(asker):
            for video in videos:
                waiting.append(engine.classify(video, num_clips, asker))
                if len(waiting) >= engine.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def checked_row(self, classification: Classification, number: int, total: int, params: Params) -> dict[str, Any]:
        """Like `row`, of a video of a request.

        Raises:
            PredictionError: it cannot be read, and was not to be reported.
            UserError: see `row`.
        """
        if classification.error and params.bad_videos == STOP:
            raise PredictionError(f"Video {number} of {total} was refused: {classification.error}.")
        return self.row(classification, top_k=params.top_k)

    def row(self, classification: Classification, *, top_k: int) -> dict[str, Any]:
        """What is said of a video, by the names of `flavor.signature.COLUMNS`.

        Raises:
            UserError: the model's answer is no number.
        """
        faults = {"warning": classification.warning, "error": classification.error}
        if classification.probabilities is None:
            return {"label": "", "score": None, "top_k": [], **faults}
        check_answers(classification.probabilities)
        best = np.argsort(-classification.probabilities, kind="stable")[:top_k]
        pairs = [{"label": self._labels[index], "score": float(classification.probabilities[index])} for index in best]
        return {**pairs[0], "top_k": pairs, **faults}


_LOADED: "weakref.WeakSet[VideoClassifier]" = weakref.WeakSet()


def _begin_all_anew() -> None:
    for classifier in list(_LOADED):
        classifier.begin_anew()


os.register_at_fork(after_in_child=_begin_all_anew)


def _again(
    model_config: VJEPA2Config,
    weights: dict[str, tuple[np.ndarray, int]],
    preprocessing: Preprocessing,
    sampling: Sampling,
    config: ServingConfig,
) -> VideoClassifier:
    return VideoClassifier(from_arrays(model_config, weights), preprocessing, sampling=sampling, config=config)
