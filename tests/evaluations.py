"""Predictions of models that were never trained, videos with a look of their own, and the installed evaluator."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import av
import numpy as np
from helpers import PYPROJECT
from mlflow.models.evaluation.evaluator_registry import _model_evaluation_registry

from vjepa_mlflow.evaluation import VideoPredictions


def register_evaluator() -> None:
    """As MLflow does of what is installed, whichever version of the package that is."""
    for name, value in PYPROJECT["project"]["entry-points"]["mlflow.model_evaluator"].items():
        _model_evaluation_registry.register(name, EntryPoint(name, value, "mlflow.model_evaluator").load())


def random_predictions(*, videos: int, classes: int, seed: int = 0) -> VideoPredictions:
    """A model that is right more often than not."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(classes, size=videos)
    logits = generator.normal(size=(videos, classes)) + 1.8 * np.eye(classes)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return VideoPredictions([f"class {index}" for index in range(classes)], targets, probabilities, np.arange(videos))


def predictions_of_hits(hits: np.ndarray, groups: np.ndarray | None = None) -> VideoPredictions:
    """Of two classes, with these predictions right."""
    probabilities = np.where(hits[:, None], [0.9, 0.1], [0.2, 0.8])
    groups = np.arange(len(hits)) if groups is None else groups
    return VideoPredictions(["a", "b"], np.zeros(len(hits), dtype=int), probabilities, groups)


def rewrite_video(source: Path, target: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Encodes a video anew, each RGB frame changed."""
    with av.open(str(source)) as video, av.open(str(target), "w") as container:
        (stream,) = video.streams.video
        made = container.add_stream("libx264", stream.average_rate, options={"crf": "20"})
        made.width, made.height, made.pix_fmt = stream.width, stream.height, "yuv420p"
        for frame in video.decode(stream):
            image = np.ascontiguousarray(change(frame.to_ndarray(format="rgb24")))
            container.mux(made.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(made.encode())
