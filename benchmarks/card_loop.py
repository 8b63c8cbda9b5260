"""The model card's loop, as its user would have written it: the baseline that everything is compared with.

It has PyTorch, transformers, PyAV and NumPy, and nothing of this package.
"""

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

WORKERS = 8


class Clip(NamedTuple):
    """A labelled video, and which part of it is seen.

    Attributes:
        path: of the video.
        label: the number of its class.
        position: where the clip begins, from 0 (as early as possible) to 1 (as late as possible).
        corner: where the crop's upper left corner is, as shares of the room above and left of it; None: centred.
    """

    path: Path
    label: int
    position: float = 0.5
    corner: tuple[float, float] | None = None


Reader = Callable[[Path, int, int, float], np.ndarray]
"""A path, a number of frames, their stride and a position to uint8 RGB frames of shape (frames, height, width, 3)."""


def tutorial_reader(path: Path, num_frames: int, stride: int, position: float) -> np.ndarray:
    """PyAV as tutorials use it: every frame from the first on, and those that are wanted as arrays."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        wanted = choose_frames(stream.frames, num_frames, stride, position)
        for index, frame in enumerate(container.decode(stream)):
            frames += [frame.to_ndarray(format="rgb24")] * int((wanted == index).sum())
            if index >= wanted[-1]:
                break
    return np.stack(frames)


def choose_frames(video_frames: int, num_frames: int, stride: int, position: float) -> np.ndarray:
    """Every `stride`-th frame, or closer ones where the video is too short; its last again where it has too few."""
    stride = max(1, min(stride, (video_frames - 1) // max(1, num_frames - 1)))
    last_start = max(0, video_frames - 1 - (num_frames - 1) * stride)
    return np.minimum(int(position * last_start) + stride * np.arange(num_frames), video_frames - 1)


class Clips(Dataset):
    """Decodes and preprocesses a clip in a loader's worker, on the CPU."""

    def __init__(
        self,
        clips: Sequence[Clip],
        processor: VJEPA2VideoProcessor,
        *,
        num_frames: int,
        stride: int,
        reader: Reader = tutorial_reader,
    ):
        self._clips, self._processor = clips, processor
        self._num_frames, self._stride, self._reader = num_frames, stride, reader

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        clip = self._clips[index]
        frames = torch.from_numpy(self._reader(clip.path, self._num_frames, self._stride, clip.position))
        return self._pixels(frames.permute(0, 3, 1, 2), clip.corner), clip.label

    def _pixels(self, frames: Tensor, corner: tuple[float, float] | None) -> Tensor:
        if corner is None:
            return self._processor(videos=[frames])["pixel_values_videos"][0]
        whole = self._processor(videos=[frames], do_center_crop=False)["pixel_values_videos"][0]
        height, width = self._processor.crop_size["height"], self._processor.crop_size["width"]
        top = round(corner[0] * (whole.shape[-2] - height))
        left = round(corner[1] * (whole.shape[-1] - width))
        return whole[..., top : top + height, left : left + width]


def loader(clips: Clips) -> DataLoader:
    workers = min(WORKERS, len(os.sched_getaffinity(0)))
    return DataLoader(clips, batch_size=1, num_workers=workers, pin_memory=torch.cuda.is_available())


def train(
    model: VJEPA2ForVideoClassification,
    *,
    epochs: Sequence[Clips],
    val: Clips,
    test: Clips,
    learning_rate: float,
    accumulation: int,
) -> dict[str, object]:
    """Trains the head clip by clip, the whole model forward each time, and returns the metrics.

    Args:
        model: in fp32, its backbone frozen.
        epochs: the training clips of each epoch, in their order.
        val: run after each epoch.
        test: run once with the best epoch's head.
        learning_rate: of Adam.
        accumulation: clips of one optimizer step.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=learning_rate)
    accuracies: list[float] = []
    losses: list[float] = []
    best_rank, best = (-1.0, 0.0), None
    for clips in epochs:
        total = 0.0
        for index, (pixels, label) in enumerate(loader(clips)):
            window_start = index - index % accumulation
            window = min(accumulation, len(clips) - window_start)
            outputs = model(
                pixel_values_videos=pixels.to(model.device, non_blocking=True), labels=label.to(model.device)
            )
            (outputs.loss / window).backward()
            total += outputs.loss.item()
            if index + 1 == window_start + window:
                optimizer.step()
                optimizer.zero_grad()
        losses.append(total / len(clips))
        accuracy, loss = evaluate(model, val)
        accuracies.append(accuracy)
        if (accuracy, -loss) > best_rank:
            best_rank = accuracy, -loss
            best = copy.deepcopy([parameter.detach() for parameter in trainable])
    with torch.no_grad():
        for parameter, value in zip(trainable, best or [], strict=True):
            parameter.copy_(value)
    return {"train_loss": losses, "val_accuracy": accuracies, "test_accuracy": evaluate(model, test)[0]}


@torch.no_grad()
def evaluate(model: VJEPA2ForVideoClassification, clips: Clips) -> tuple[float, float]:
    """Accuracy and mean loss."""
    hits, total = 0, 0.0
    for pixels, label in loader(clips):
        outputs = model(pixel_values_videos=pixels.to(model.device, non_blocking=True), labels=label.to(model.device))
        hits += int(outputs.logits.argmax(dim=-1).cpu() == label)
        total += outputs.loss.item()
    return hits / len(clips), total / len(clips)
