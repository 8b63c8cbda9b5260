"""Clips to features: each video read once, in worker processes, and its clips encoded in large batches."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.features.assembly import Assembly, Clip, FailedClip, ReadClip, Resized, resize_pictures
from vjepa_mlflow.features.transfer import beside, from_beside, pin_for, to_device, when_computed
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.model import Backbone, FrozenBackbone, cut_out, is_out_of_memory
from vjepa_mlflow.video import ClipReader, ClipsRequest, FileVersion, GpuReaders, Sampling, VideoError
from vjepa_mlflow.video.one_pass import Declined, Part, Pictures

logger = get_logger(__name__)

Computed = TypeVar("Computed")

BATCH_SIZE = 16
"""Clips encoded at once on a GPU, halved whenever its memory runs out. An H200 gains nothing from more."""

BATCHES_AHEAD = 2
"""That a GPU is given before it has done the first of them: with more, pixels would take its memory."""

MOST_GPU_READERS, FREE_FOR_A_GPU_READER = 20, 4 << 30
"""Processes that use a GPU's decoder, and bytes of its memory that are to be free for each, which takes 0.6 GiB."""


def gpu_readers(device: torch.device) -> GpuReaders | None:
    """The processes that may read videos with a device's decoder now; None where it is no GPU."""
    if device.type == "cpu":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return GpuReaders(device.index or 0, min(MOST_GPU_READERS, free // FREE_FOR_A_GPU_READER))


class Encoded(NamedTuple):
    """A clip's features, of shape (tokens, hidden size), on the model's device, or what is wrong with its video."""

    clip: Clip
    features: Tensor | VideoError


class Encoder:
    """The frozen backbone as a function from clips to features.

    Features are the backbone's last hidden state: for the ViT-L 2048 tokens of 1024 values, 8 MiB in fp32. They depend
    on the clip alone: batches always have the same size, since matrix products of another size round otherwise.

    Args:
        backbone: which is loaded when the first clip is to be encoded.
        form: of the backbone, see `FrozenBackbone.forms`.
        sampling: of a clip.
        precision: the recipe's.
        cache_dir: the folder for what is cached of video files; None for none.

    Attributes:
        device: where the features are.
        batch_size: clips encoded at once.
        reader: of the clips.
    """

    def __init__(
        self, backbone: FrozenBackbone, *, form: str, sampling: Sampling, precision: str, cache_dir: Path | None = None
    ):
        self.device = backbone.device
        self.batch_size = BATCH_SIZE if self.device.type == "cuda" else 1
        self._frozen, self._form, self._precision = backbone, form, precision
        self.reader = ClipReader(sampling, cache_dir, as_planes=self.device.type == "cuda")
        self._has_told = False

    def encode(self, clips: Sequence[Clip]) -> "Encoding":
        """Begins to read clips, all of a video together, in the order in which the first of each is there."""
        return Encoding(self, clips)

    @cached_property
    def _backbone(self) -> Backbone:
        return self._frozen.load(precision=self._precision, form=self._form)

    def prepare(self) -> None:
        """Does beforehand what the first batch would have to wait for."""
        with suppress(torch.OutOfMemoryError):  # then the first batch will run out of memory too, and be halved
            self._backbone.prepare(clips=self.batch_size)

    def resize(self, pictures: Pictures, values: Tensor) -> Resized:
        """Resizes frames on the device; see `resize_pictures`. Raises what `encode_batch` raises."""

        def resize() -> Resized:
            with beside(self.device):
                return resize_pictures(self._frozen.preprocessing, pictures, values)

        return self._with_what_memory_there_is(resize)

    def encode_batch(self, clips: Sequence[ReadClip]) -> list[Encoded]:
        """The features of clips that have been read.

        Raises:
            UserError: not even one clip fits the memory.
        """
        features: list[Tensor] = []
        while len(features) < len(clips):
            left = clips[len(features) :]
            features += self._with_what_memory_there_is(lambda: self._encode(left[: self.batch_size]))  # noqa: B023
        return [Encoded(read.clip, of_clip) for read, of_clip in zip(clips, features, strict=True)]

    def tell_declined(self, path: Path, reason: str) -> None:
        """Says, of the first such video, that the GPU's decoder is not used."""
        if not self._has_told:
            logger.warning(
                f"{path}: the GPU's decoder does not read it ({reason}): the processors do, as all that are like it"
            )
        self._has_told = True

    def _with_what_memory_there_is(self, compute: Callable[[], Computed]) -> Computed:
        """Where memory runs out, it is tried again, and fewer clips are encoded at once from there on."""
        while True:
            try:
                return compute()
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
            logger.warning(f"Memory ran out: {self.batch_size} clips are encoded at once from here on")

    def _encode(self, clips: Sequence[ReadClip]) -> Tensor:
        with beside(self.device):
            frames, views = [read.frames for read in clips], [read.clip.view for read in clips]
            pixels = cut_out(self._frozen.preprocessing, frames, views=views)
            missing = self.batch_size - len(clips)
            if missing:
                pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1, -1)])
        return self._backbone(from_beside(pixels))[: len(clips)]


class Encoding:
    """Clips on their way to features. Reading goes on in other processes while nobody takes any.

    Args:
        encoder: what encodes.
        clips: whose features are wanted.
    """

    def __init__(self, encoder: Encoder, clips: Sequence[Clip]):
        self._encoder = encoder
        self._assemblies = _by_video(clips)
        self._read: deque[ReadClip] = deque()
        self._computed: deque[torch.cuda.Event | None] = deque()
        self._is_prepared = False
        self._stream = encoder.reader.read(
            list(self._assemblies),
            finish=self._finish,
            size=_size,
            pin=pin_for(encoder.device),
            gpu_readers=gpu_readers(encoder.device),
        )

    def take(self, *, wait: bool = True) -> list[Encoded]:
        """The features of some more clips, in any order, or what is wrong with one; nothing once all were taken.

        Args:
            wait: until there are some. If not, nothing is returned where too little has been read for a batch.

        Raises:
            UserError: not even one clip fits the memory; or workers died.
        """
        self._prepare()
        while len(self._read) < self._encoder.batch_size:
            finished = self._stream.take(wait=wait)
            if finished is None:
                if not self._stream.is_done:
                    return []
                self._stream.close()
                break
            failed = self._take_in(*finished)
            if failed:
                return failed
        batch = [self._read.popleft() for _ in range(min(len(self._read), self._encoder.batch_size))]
        return self._encode(batch) if batch else []

    def __iter__(self) -> Iterator[Encoded]:
        while not self.is_done:
            yield from self.take()

    @property
    def is_done(self) -> bool:
        """Whether everything was taken."""
        return self._stream.is_done and not self._read

    def close(self) -> None:
        """Stops reading, and forgets what was read."""
        self._stream.close()
        self._read.clear()
        self._assemblies.clear()

    def _prepare(self) -> None:
        if not self._is_prepared:  # while the first videos are read
            self._encoder.prepare()
            self._is_prepared = True

    def _take_in(self, request: ClipsRequest, part: Part | Resized, values: Tensor | None) -> list[Encoded]:
        if isinstance(part, Pictures):
            assert values is not None
            part = self._encoder.resize(part, values)
        if isinstance(part, Declined):
            self._encoder.tell_declined(request.path, part.reason)
            return []
        with beside(self._encoder.device):
            clips = list(self._assemblies[request].take(part))
        self._read.extend(clip for clip in clips if isinstance(clip, ReadClip))
        return [Encoded(clip.clip, clip.error) for clip in clips if isinstance(clip, FailedClip)]

    def _encode(self, batch: Sequence[ReadClip]) -> list[Encoded]:
        if len(self._computed) == BATCHES_AHEAD and (computed := self._computed.popleft()) is not None:
            computed.synchronize()
        encoded = self._encoder.encode_batch(batch)
        self._computed.append(when_computed(self._encoder.device))
        return encoded

    def _finish(self, request: ClipsRequest, part: Part) -> "_Finished":
        """In a thread: what is done with frames before they are waited for, so that their memory is free again."""
        if not isinstance(part, Pictures):
            return _Finished(request, part, None)
        values, small = torch.from_numpy(part.values), part._replace(values=_NOTHING)
        if self._encoder.device.type == "cpu":
            return _Finished(request, self._encoder.resize(small, values), None)
        return _Finished(request, small, to_device(values, self._encoder.device))


class _Finished(NamedTuple):
    """A part of a video, with the values of its frames where they are to be resized on a GPU."""

    request: ClipsRequest
    part: Part | Resized
    values: Tensor | None


_NOTHING = np.empty(0, np.uint8)


def _size(finished: _Finished) -> int:
    if finished.values is not None:
        return finished.values.nbytes
    return finished.part.frames.nbytes if isinstance(finished.part, Resized) else 0


def _by_video(clips: Sequence[Clip]) -> dict[ClipsRequest, Assembly]:
    """What is to be read of each file, and the clips that it is for."""
    of_videos: dict[tuple[Path, FileVersion | None, str], list[Clip]] = {}
    for clip in clips:
        sample = clip.sample
        of_videos.setdefault((sample.path, sample.version, sample.digest), []).append(clip)
    return {
        ClipsRequest(path, tuple({clip.view.position: None for clip in wanted}), version, digest): Assembly(wanted)
        for (path, version, digest), wanted in of_videos.items()
    }
