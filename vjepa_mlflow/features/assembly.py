"""Frames of videos, as they are read, to whole clips of resized frames."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from vjepa_mlflow.data import Sample
from vjepa_mlflow.model import Preprocessing, resize
from vjepa_mlflow.model.preprocessing import PIXELS_AT_ONCE
from vjepa_mlflow.video import VideoError, View
from vjepa_mlflow.video.one_pass import Failed, Pictures, Placed
from vjepa_mlflow.video.picture import Colours, Turn


class Clip(NamedTuple):
    """One view of one sample, whose features are wanted."""

    sample: Sample
    view: View


class ReadClip(NamedTuple):
    """A clip that was read: its resized uint8 frames, of shape (frames, 3, height, width)."""

    clip: Clip
    frames: Tensor


class FailedClip(NamedTuple):
    """A clip that cannot be read, and what is wrong with its video."""

    clip: Clip
    error: VideoError


class Resized(NamedTuple):
    """Frames of a video by their indices, resized, uint8 of shape (frames, 3, height, width)."""

    indices: list[int]
    frames: Tensor


class Assembly:
    """The clips of one video, which come together from its frames.

    Args:
        clips: all of one video.
    """

    def __init__(self, clips: Sequence[Clip]):
        self._clips: dict[float, list[Clip]] = {}
        for clip in clips:
            self._clips.setdefault(clip.view.position, []).append(clip)
        self._places: dict[float, list[int]] = {}
        self._frames: dict[int, Tensor] = {}

    def take(self, part: Placed | Resized | Failed) -> Iterator[ReadClip | FailedClip]:
        """Takes in what was read next, and yields the clips that are whole, or failed, with it."""
        if isinstance(part, Failed):
            for clip in self._clips.pop(part.position, ()):
                yield FailedClip(clip, part.error)
        elif isinstance(part, Placed):
            self._frames.clear()
            self._places = {position: clip for position, clip in part.clips.items() if position in self._clips}
        else:
            self._frames.update(zip(part.indices, part.frames.unbind(), strict=True))
            yield from self._whole_clips(part.indices[-1])
            wanted = {index for clip in self._places.values() for index in clip}
            self._frames = {index: frame for index, frame in self._frames.items() if index in wanted}

    def _whole_clips(self, reached: int) -> Iterator[ReadClip]:
        for position in [position for position, clip in self._places.items() if clip[-1] <= reached]:
            frames = torch.stack([self._frames[index] for index in self._places.pop(position)])
            for clip in self._clips.pop(position):
                yield ReadClip(clip, frames)


def resize_pictures(preprocessing: Preprocessing, pictures: Pictures, values: Tensor) -> Resized:
    """Makes RGB of frames where they are planes, and resizes them, a few at a time.

    Args:
        preprocessing: the checkpoint's.
        pictures: the frames.
        values: theirs, on the device where it is to be done.
    """
    at_once = max(1, PIXELS_AT_ONCE // (pictures.height * pictures.width * 3))
    parts = [resize(preprocessing, _to_rgb(part, pictures)) for part in values.split(at_once)]
    return Resized(pictures.indices, torch.cat(parts))  # a copy, also of frames that were of their size before


def _to_rgb(values: Tensor, pictures: Pictures) -> Tensor:
    """uint8 RGB of shape (frames, 3, height, width), upright."""
    if pictures.colours is None:
        return values.permute(0, 3, 1, 2)
    height, width, luma = pictures.height, pictures.width, pictures.height * pictures.width
    if pictures.interleaved:
        cb, cr = values[:, luma:].view(-1, height // 2, width // 2, 2).unbind(-1)
    else:
        cb, cr = values[:, luma:].view(-1, 2, height // 2, width // 2).unbind(1)
    return _turn(_convert(values[:, :luma].view(-1, height, width), cb, cr, pictures.colours), pictures.turn)


def _convert(y: Tensor, cb: Tensor, cr: Tensor, colours: Colours) -> Tensor:
    """The RGB of planes, in swscale's integers: see `Colours`.

    Args:
        y: uint8 of shape (frames, height, width), which are even.
        cb: of shape (frames, height // 2, width // 2).
        cr: likewise.
        colours: how they become RGB.

    Returns:
        uint8 of shape (frames, 3, height, width).
    """
    count, height, width = y.shape
    luma, red, blue, green_blue, green_red = _products(colours, y.device)
    cb, cr = cb.to(torch.int32), cr.to(torch.int32)
    green = _look_up(green_blue, cb).add_(_look_up(green_red, cr))
    shares = torch.stack([_look_up(red, cr), green, _look_up(blue, cb)], dim=1)
    grey = _look_up(luma, y.to(torch.int32)).view(count, 1, height // 2, 2, width // 2, 2)
    rgb = grey + shares.view(count, 3, height // 2, 1, width // 2, 1)
    return rgb.clamp_(0, 255).to(torch.uint8).view(count, 3, height, width)


@lru_cache(maxsize=8)
def _products(colours: Colours, device: torch.device) -> Tensor:
    """What each of the 256 values comes to with each factor: int16 of shape (5, 256).

    A GPU looks them up in a third of the steps that it would calculate them in.
    """
    black, *factors = colours
    zeros = torch.tensor([[black], *[[128 << 3]] * 4])
    return (((torch.arange(256) << 3) - zeros) * torch.tensor(factors)[:, None] >> 16).to(torch.int16).to(device)


def _look_up(products: Tensor, values: Tensor) -> Tensor:
    return products.index_select(0, values.flatten()).view(values.shape)


def _turn(frames: Tensor, turn: Turn) -> Tensor:
    """Brings frames of shape (frames, 3, height, width) upright."""
    if turn.swaps_axes:
        frames = frames.transpose(2, 3)
    mirrored = [dim for dim, mirrors in ((3, turn.mirrors_columns), (2, turn.mirrors_rows)) if mirrors]
    return frames.flip(mirrored) if mirrored else frames
