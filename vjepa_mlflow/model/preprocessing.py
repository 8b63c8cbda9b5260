"""Frames to what the backbone takes, by the checkpoint's own video processor."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vjepa_mlflow.video import View

if TYPE_CHECKING:
    from transformers import VJEPA2VideoProcessor

CENTRED = View()

PIXELS_AT_ONCE = 1 << 25
"""Values of uint8 frames resized together. Small clips cost one launch a step for many; large ones go one by one."""


def preprocess(
    processor: "VJEPA2VideoProcessor", clips: Sequence[Tensor], *, views: Sequence[View], device: torch.device
) -> Tensor:
    """Resizes, crops and normalises clips on `device`. A clip's result is the same whichever clips go with it.

    Args:
        processor: the checkpoint's.
        clips: uint8 RGB, each of shape (frames, height, width, 3). Never floats: the processor would rescale them
            again.
        views: a crop and a flip for each; the centred view is exactly what the processor does by itself.
        device: where to compute.

    Returns:
        float32 of shape (clips, frames, 3, crop height, crop width).
    """
    pixels: list[Tensor | None] = [None] * len(clips)
    for centred in (True, False):
        chosen = [index for index, view in enumerate(views) if (view == CENTRED) is centred]
        for group in _groups(chosen, [clip.numel() for clip in clips]):
            videos = [clips[index].to(device, non_blocking=True).permute(0, 3, 1, 2) for index in group]
            # The processor resizes first and crops then, so a crop elsewhere is cut from its uncropped output.
            for index, video in zip(group, _process(processor, videos, whole=not centred), strict=True):
                pixels[index] = video if centred else _cut(video, views[index], processor.crop_size)
    return torch.stack([clip for clip in pixels if clip is not None])


def _groups(indices: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    group: list[int] = []
    for index in indices:
        if group and sum(sizes[other] for other in [*group, index]) > PIXELS_AT_ONCE:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _process(processor: "VJEPA2VideoProcessor", videos: list[Tensor], *, whole: bool) -> list[Tensor]:
    return processor(videos=videos, **({"do_center_crop": False} if whole else {}))["pixel_values_videos"]


def _cut(whole: Tensor, view: View, crop_size: dict[str, int]) -> Tensor:
    height, width = crop_size["height"], crop_size["width"]
    top = round(view.crop_y * (whole.shape[-2] - height))
    left = round(view.crop_x * (whole.shape[-1] - width))
    pixels = whole[..., top : top + height, left : left + width]
    return pixels.flip(-1) if view.flip else pixels
