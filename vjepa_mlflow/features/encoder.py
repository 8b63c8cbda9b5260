"""Clips to features: read ahead in worker processes, encoded in large batches."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vjepa_mlflow.data import Sample
from vjepa_mlflow.errors import UserError, remark
from vjepa_mlflow.features.transfer import preprocess_beside
from vjepa_mlflow.iteration import batches, one_ahead
from vjepa_mlflow.model import Backbone, FrozenBackbone, is_out_of_memory, preprocess
from vjepa_mlflow.video import ClipReader, ClipRequest, Sampling, VideoError, View

BATCH_SIZE = 16
"""Clips encoded at once on a GPU, halved whenever its memory runs out. An H200 gains nothing from more."""


class Clip(NamedTuple):
    """One view of one sample, whose features are wanted."""

    sample: Sample
    view: View


class ReadClip(NamedTuple):
    """A clip's uint8 frames, of shape (frames, height, width, 3), and the view to take of them."""

    frames: Tensor
    view: View


class Encoder:
    """The frozen backbone as a function from clips to features.

    Features are the backbone's last hidden state: for the ViT-L 2048 tokens of 1024 values, 8 MiB in fp32. They depend
    on the clip alone: batches always have the same size, since matrix products of another size round otherwise.

    Args:
        backbone: which is loaded when the first clip is to be encoded.
        form: of the backbone, see `FrozenBackbone.forms`.
        sampling: of a clip.
        precision: the recipe's.
        notes: the folder for what is noted of video files; None for none.

    Attributes:
        device: where the features are.
        batch_size: clips encoded at once.
    """

    def __init__(
        self, backbone: FrozenBackbone, *, form: str, sampling: Sampling, precision: str, notes: Path | None = None
    ):
        self.device = backbone.device
        self.batch_size = BATCH_SIZE if self.device.type == "cuda" else 1
        self._frozen, self._form, self._precision = backbone, form, precision
        self._reader = ClipReader(sampling, notes=notes, pin_memory=self.device.type == "cuda")

    def encode(self, clips: Sequence[Clip], following: Iterable[Clip] = ()) -> Iterator[Tensor | VideoError]:
        """Yields the features of each clip in turn, of shape (tokens, hidden size), on the model's device.

        In place of those of a video that cannot be decoded any more, or has changed, it yields what is wrong with it.

        Args:
            clips: whose features are wanted.
            following: what is likely to be encoded next; its reading begins when the last of these is on its way.

        Raises:
            UserError: not even one clip fits the memory.
        """
        if not clips:
            return
        self._reader.begin(map(_request, clips))
        self._prepare()  # while the first videos are read
        # While the consumer works with one batch's features, the GPU is already at the next.
        encoded = (self._encode_batch(batch) for batch in batches(self._read(clips, following), self.batch_size))
        yield from chain.from_iterable(one_ahead(encoded))

    @cached_property
    def _backbone(self) -> Backbone:
        return self._frozen.load(precision=self._precision, form=self._form)

    def _prepare(self) -> None:
        with suppress(torch.OutOfMemoryError):  # then the first batch will run out of memory too, and be halved
            self._backbone.prepare(clips=self.batch_size)

    def _read(self, clips: Sequence[Clip], following: Iterable[Clip]) -> Iterator[ReadClip | VideoError]:
        results = self._reader.read(map(_request, clips), map(_request, following))
        for clip, frames in zip(clips, results, strict=True):
            yield frames if isinstance(frames, VideoError) else ReadClip(frames, clip.view)

    def _encode_batch(self, batch: Sequence[ReadClip | VideoError]) -> list[Tensor | VideoError]:
        """The features of clips that have been read, each of shape (tokens, hidden size), or what is wrong with it."""
        features: list[Tensor] = []
        remaining = [clip for clip in batch if isinstance(clip, ReadClip)]
        while remaining:
            try:
                features += self._encode(remaining[: self.batch_size])
                remaining = remaining[self.batch_size :]
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise UserError(
                        f"device={self.device}: its memory is too small to encode one clip: expected more, or "
                        f"precision=bf16"
                    ) from None
            self.batch_size //= 2
            torch.cuda.empty_cache()
            remark(f"Memory ran out: {self.batch_size} clips are encoded at once from here on")
        found = iter(features)
        return [next(found) if isinstance(clip, ReadClip) else clip for clip in batch]

    def _encode(self, clips: Sequence[ReadClip]) -> Tensor:
        pixels = self._preprocess(clips)
        missing = self.batch_size - len(clips)
        padded = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1, -1)]) if missing else pixels
        return self._backbone(padded)[: len(clips)]

    def _preprocess(self, clips: Sequence[ReadClip]) -> Tensor:
        frames, views = [clip.frames for clip in clips], [clip.view for clip in clips]
        return preprocess_beside(
            lambda: preprocess(self._frozen.preprocessing, frames, views=views, device=self.device), self.device
        )


def _request(clip: Clip) -> ClipRequest:
    return ClipRequest(clip.sample.path, clip.view.position, clip.sample.version, clip.sample.digest)
