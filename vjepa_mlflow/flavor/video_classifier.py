"""What a served model does: video files in, labels out."""

import base64
import binascii
import logging
import re
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow.flavor.signature import DEFAULT_PARAMS, MAX_CLIPS
from vjepa_mlflow.iteration import batches, map_ahead
from vjepa_mlflow.model import CENTRED, choose_device, label_names, preprocess
from vjepa_mlflow.video import VideoError, clip_positions, read_clip

BATCH_SIZE = 8
"""Clips in one forward pass."""

EXPECTED = "expected the content of a video file"
_TEXT = re.compile(rb"[\s!-~]*")

logger = logging.getLogger(__name__)


class PredictionError(MlflowException):
    """One sentence for the client; a fault of the request is answered 400, one of the model 500."""

    def __init__(self, sentence: str, error_code: int = INVALID_PARAMETER_VALUE):
        super().__init__(sentence, error_code=error_code)


class VideoClassifier:
    """A classifier behind `mlflow.pyfunc`, on the GPU where there is one."""

    def __init__(self, model: VJEPA2ForVideoClassification, processor: VJEPA2VideoProcessor, *, stride: int):
        self._device = choose_device("auto")
        self._model = model.to(self._device)
        self._processor = processor
        self._stride = stride
        self._labels = label_names(model.config)

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classifies video files.

        Args:
            model_input: a column `video` of file contents, as bytes or as base64 text.
            params: `top_k`, how many labels to return, and `num_clips`, over how many clips of a video to average.

        Returns:
            A row for each video: `label`, `score` (the label's probability) and `top_k` (pairs of label and score).

        Raises:
            PredictionError: the request is at fault and is answered 400, or the model is and answers 500.
        """
        try:
            top_k = _at_least_one("top_k", params)
            num_clips = _at_least_one("num_clips", params)
            if num_clips > MAX_CLIPS:
                raise PredictionError(f"num_clips={num_clips}: expected at most {MAX_CLIPS}.")
            probabilities = self._probabilities(_contents(model_input), num_clips)
        except PredictionError:
            raise
        except Exception:
            logger.exception("A prediction failed")
            raise PredictionError("The model failed on this request; its log says why.", INTERNAL_ERROR) from None
        return pd.DataFrame([self._row(row, top_k) for row in probabilities], columns=["label", "score", "top_k"])

    def _probabilities(self, videos: list[bytes], num_clips: int) -> np.ndarray:
        """Returns the classes' probabilities averaged over each video's clips, of shape (videos, classes)."""

        def pixels(wanted: tuple[int, float]) -> torch.Tensor:
            index, position = wanted
            try:
                frames = read_clip(
                    videos[index],
                    num_frames=self._model.config.frames_per_clip,
                    stride=self._stride,
                    position=position,
                )
            except VideoError as error:
                raise PredictionError(f"Video {index + 1} of {len(videos)} was refused: {error}.") from error
            return preprocess(self._processor, [torch.from_numpy(frames)], views=[CENTRED], device=self._device)[0]

        wanted = [(index, position) for index in range(len(videos)) for position in clip_positions(num_clips)]
        clips = map_ahead(pixels, wanted, ahead=2 * BATCH_SIZE)
        probabilities = [self._forward(torch.stack(batch)) for batch in batches(clips, BATCH_SIZE)]
        return torch.cat(probabilities).reshape(len(videos), num_clips, -1).mean(dim=1).numpy()

    @torch.no_grad()
    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._model(pixel_values_videos=pixels).logits.double().softmax(dim=-1).cpu()

    def _row(self, probabilities: np.ndarray, top_k: int) -> dict[str, Any]:
        best = np.argsort(-probabilities, kind="stable")[:top_k]
        pairs = [{"label": self._labels[index], "score": float(probabilities[index])} for index in best]
        return {**pairs[0], "top_k": pairs}


def _at_least_one(name: str, params: dict[str, Any] | None) -> int:
    value = int((params or {}).get(name, DEFAULT_PARAMS[name]))
    if value < 1:
        raise PredictionError(f"{name}={value}: expected a whole number of at least 1.")
    return value


def _contents(model_input: pd.DataFrame) -> list[bytes]:
    if "video" not in model_input or model_input.empty:
        raise PredictionError("Expected at least one row with a column 'video' that holds a video file.")
    values = list(model_input["video"])
    return [_content(value, f"Video {number} of {len(values)}") for number, value in enumerate(values, start=1)]


def _content(value: Any, name: str) -> bytes:
    """Returns a file's content. The scoring server decodes base64 in some forms of payload and not in others."""
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes | bytearray):
        raise PredictionError(f"{name} is of type {type(value).__name__}: {EXPECTED}.")
    if not value:
        raise PredictionError(f"{name} is empty: {EXPECTED}.")
    if _TEXT.fullmatch(value[:64]) is None:
        return bytes(value)  # no format of video begins with so many printable characters
    try:
        return base64.b64decode(b"".join(value.split()), validate=True)
    except binascii.Error:
        raise PredictionError(f"{name} is text that is not base64: {EXPECTED} in base64.") from None
