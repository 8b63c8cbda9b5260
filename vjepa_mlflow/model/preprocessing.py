"""Frames to what the backbone takes: on any device, the bits that `VJEPA2VideoProcessor` makes of them there.

PyTorch alone computes them. The processor, with transformers and torchvision, takes seconds to import.
"""

import platform
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vjepa_mlflow.model.configuration import Preprocessing, Sides
from vjepa_mlflow.runtime.iteration import batches
from vjepa_mlflow.video import View

CENTRED = View()

PIXELS_AT_ONCE = 1 << 26
"""Values of uint8 frames resized together. Small clips cost one launch a step for many; large ones go one by one."""

_FILTERS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
"""PyTorch's names of Pillow's numbers."""


def preprocess(
    preprocessing: Preprocessing, clips: Sequence[Tensor], *, views: Sequence[View], device: torch.device
) -> Tensor:
    """Resizes, crops and normalises clips on `device`. A clip's result is the same whichever clips go with it.

    Args:
        preprocessing: the checkpoint's.
        clips: uint8 RGB, each of shape (frames, height, width, 3).
        views: a crop and a flip for each; the centred view is exactly what the processor makes of a clip.
        device: where to compute.

    Returns:
        float32, or uint8 where nothing is rescaled or normalised, of shape (clips, frames, 3, crop height, crop width).
        In memory the channels are last, whatever was done: convolutions may round by that.
    """
    resized: dict[int, Tensor] = {}
    for group in _groups(clips):
        frames = [clips[index].to(device, non_blocking=True) for index in group]
        together = frames[0] if len(group) == 1 else torch.cat(frames)
        small = resize(preprocessing, together.permute(0, 3, 1, 2))
        resized.update(zip(group, small.chunk(len(group)), strict=True))
    return cut_out(preprocessing, [resized[index] for index in range(len(clips))], views=views)


def resize(preprocessing: Preprocessing, frames: Tensor) -> Tensor:
    """Resizes frames, or not, as a checkpoint's preprocessing says.

    Args:
        preprocessing: the checkpoint's.
        frames: uint8 RGB of shape (frames, 3, height, width), on the device where it is to be done.

    Returns:
        uint8 of shape (frames, 3, resized height, resized width); a frame's are the same whichever others go with it,
        and however they lie in memory.
    """
    return _resize(preprocessing, frames) if preprocessing.do_resize else frames


def cut_out(preprocessing: Preprocessing, clips: Sequence[Tensor], *, views: Sequence[View]) -> Tensor:
    """Crops and normalises clips whose frames have been resized; the rest of `preprocess`.

    Args:
        preprocessing: the checkpoint's.
        clips: as `resize` returns frames, on one device.
        views: a crop and a flip for each.

    Returns:
        As `preprocess` does.
    """
    cut = [
        _cut(clip, view, preprocessing.crop_size).permute(0, 2, 3, 1) for clip, view in zip(clips, views, strict=True)
    ]
    return _normalize(preprocessing, torch.stack(cut).permute(0, 1, 4, 2, 3))


def _groups(clips: Sequence[Tensor]) -> Iterator[list[int]]:
    """Yields the places of clips that are resized together: of one shape, and no more of them than fit."""
    by_shape: dict[torch.Size, list[int]] = {}
    for index, clip in enumerate(clips):
        by_shape.setdefault(clip.shape, []).append(index)
    for shape, indices in by_shape.items():
        yield from batches(indices, max(1, PIXELS_AT_ONCE // shape.numel()))


def _resize(preprocessing: Preprocessing, frames: Tensor) -> Tensor:
    """Resizes uint8 frames of shape (frames, 3, height, width) until their shorter side is as long as it is to be."""
    size = _resized(frames.shape[-2], frames.shape[-1], preprocessing.shortest_edge)
    if size == tuple(frames.shape[-2:]):
        return frames
    mode = _FILTERS[preprocessing.resample]
    if mode == "nearest-exact":
        return F.interpolate(frames, size, mode=mode)
    if _takes_bytes(mode, frames.device):
        return F.interpolate(frames, size, mode=mode, antialias=True)
    resized = F.interpolate(frames.float(), size, mode=mode, antialias=True)
    # A cubic goes beyond what it interpolates, and what does not fit a byte would come out at its other end.
    return resized.clamp_(0, 255).round_().to(torch.uint8)


def _resized(height: int, width: int, shortest_edge: int) -> tuple[int, int]:
    """Height and width of frames whose shorter side has so many pixels."""
    if width <= height:
        return int(shortest_edge * height / width), shortest_edge
    return shortest_edge, int(shortest_edge * width / height)


def _takes_bytes(mode: str, device: torch.device) -> bool:
    """Whether the processor resizes bytes as they are there, by whole numbers, and not as floats."""
    if device.type != "cpu":
        return False
    vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return mode == "bicubic" or vectors or platform.machine() in ("aarch64", "arm64")


def _cut(frames: Tensor, view: View, crop_size: Sides) -> Tensor:
    """A view's crop of frames of shape (frames, 3, height, width); smaller ones are first padded with black."""
    padded = _pad(frames, crop_size)
    down, right = padded.shape[-2] - crop_size.height, padded.shape[-1] - crop_size.width
    if view.has_centred_crop:
        top, left = down // 2, right // 2  # as the processor rounds
    else:
        top, left = round(view.crop_y * down), round(view.crop_x * right)
    crop = padded[..., top : top + crop_size.height, left : left + crop_size.width]
    return crop.flip(-1) if view.flip else crop


def _pad(frames: Tensor, crop_size: Sides) -> Tensor:
    down, right = max(0, crop_size.height - frames.shape[-2]), max(0, crop_size.width - frames.shape[-1])
    if down == right == 0:
        return frames
    return F.pad(frames, (right // 2, (right + 1) // 2, down // 2, (down + 1) // 2))


def _normalize(preprocessing: Preprocessing, frames: Tensor) -> Tensor:
    """Rescales and normalises frames of shape (..., 3, height, width), both at once where both are to be done."""
    if preprocessing.do_normalize:
        mean, deviation = _constants(preprocessing, frames.device)
        return frames.float().sub_(mean).div_(deviation)
    return frames * preprocessing.rescale_factor if preprocessing.do_rescale else frames


@lru_cache(maxsize=8)
def _constants(preprocessing: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the channels of frames that were not rescaled, each of shape (3, 1, 1).

    They are copied to a device once, since a copy from memory that is not page-locked waits for what the device does.
    """
    scale = 1 / preprocessing.rescale_factor if preprocessing.do_rescale else 1.0
    mean, deviation = (
        torch.tensor(values, dtype=torch.float32).mul(scale).view(-1, 1, 1).to(device)
        for values in (preprocessing.image_mean, preprocessing.image_std)
    )
    return mean, deviation
