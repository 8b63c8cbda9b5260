"""Frames to what the backbone takes, by the checkpoint's own video processor."""

import numpy as np
import torch
from torch import Tensor
from transformers import VJEPA2VideoProcessor

from vjepa_mlflow.video import View

CENTRED = View()


def preprocess(processor: VJEPA2VideoProcessor, frames: np.ndarray, *, view: View, device: torch.device) -> Tensor:
    """Resizes, crops and normalises one clip on `device`.

    Args:
        processor: the checkpoint's.
        frames: uint8 RGB of shape (frames, height, width, 3). Never floats: the processor would rescale them again.
        view: its crop and flip; the centred view is exactly what the processor does by itself.
        device: where to compute.

    Returns:
        float32 of shape (frames, 3, crop height, crop width).
    """
    video = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2)
    if view == CENTRED:
        return _process(processor, video)
    # The processor resizes first and crops then, so a crop elsewhere is cut from its uncropped output.
    whole = _process(processor, video, do_center_crop=False)
    height, width = processor.crop_size["height"], processor.crop_size["width"]
    top = round(view.crop_y * (whole.shape[-2] - height))
    left = round(view.crop_x * (whole.shape[-1] - width))
    pixels = whole[..., top : top + height, left : left + width]
    return pixels.flip(-1) if view.flip else pixels


def _process(processor: VJEPA2VideoProcessor, video: Tensor, **options: bool) -> Tensor:
    return processor(videos=[video], return_tensors="pt", **options)["pixel_values_videos"][0]
