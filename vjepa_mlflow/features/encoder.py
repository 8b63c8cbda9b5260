"""Clips to features: decoded ahead in threads, encoded in large batches."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow.data import Sample
from vjepa_mlflow.errors import UserError
from vjepa_mlflow.iteration import batches, map_ahead
from vjepa_mlflow.model import autocast, preprocess
from vjepa_mlflow.video import VideoError, View, read_clip

BATCH_SIZE = 16
"""Clips encoded at once. In fp32 on an H200 the ViT-L then takes 41 ms a clip, and 71 one by one."""


class Clip(NamedTuple):
    """One view of one sample, whose features are wanted."""

    sample: Sample
    view: View


class Encoder:
    """The frozen backbone as a function from clips to features.

    Features are the backbone's last hidden state: for the ViT-L 2048 tokens of 1024 values, 8 MiB in fp32.
    """

    def __init__(
        self,
        model: VJEPA2ForVideoClassification,
        processor: VJEPA2VideoProcessor,
        *,
        stride: int,
        precision: str,
    ):
        self._model = model
        self._processor = processor
        self._num_frames = model.config.frames_per_clip
        self._stride = stride
        self._precision = precision

    def encode(self, clips: Iterable[Clip]) -> Iterator[Tensor]:
        """Yields the features of each clip in turn, of shape (tokens, hidden size), on the model's device.

        Raises:
            UserError: a video cannot be decoded any more.
        """
        pixels = map_ahead(self._pixels, clips, ahead=2 * BATCH_SIZE)
        for batch in batches(pixels, BATCH_SIZE):
            yield from self._forward(torch.stack(batch))

    def _pixels(self, clip: Clip) -> Tensor:
        try:
            frames = read_clip(
                clip.sample.path, num_frames=self._num_frames, stride=self._stride, position=clip.view.position
            )
        except VideoError as error:
            raise UserError(
                f"{clip.sample.path}: {error}: expected it to be as the check before training found it"
            ) from error
        # Here and not with the batch, so that large frames do not wait for one another in memory.
        return preprocess(self._processor, frames, view=clip.view, device=self._model.device)

    @torch.no_grad()
    def _forward(self, pixels: Tensor) -> Tensor:
        with autocast(self._model.device, self._precision):
            return self._model.vjepa2(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state
