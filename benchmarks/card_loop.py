"""The model card's loop, as its user would have written it: the baseline that everything is compared with."""

import copy
from collections.abc import Callable, Sequence

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow.cpus import usable_cpus
from vjepa_mlflow.features import Clip
from vjepa_mlflow.model import matmul_precision, preprocess
from vjepa_mlflow.video import read_clip
from vjepa_mlflow.video.sampling import Sampling, choose_frames

WORKERS = 8


Reader = Callable[[Clip, int, int], np.ndarray]
"""A clip, its number of frames and their stride to uint8 RGB frames of shape (frames, height, width, 3)."""


def tutorial_reader(clip: Clip, num_frames: int, stride: int) -> np.ndarray:
    """PyAV as tutorials use it: every frame from the first on, and those that are wanted as arrays."""
    frames = []
    with av.open(str(clip.sample.path)) as container:
        stream = container.streams.video[0]
        wanted = choose_frames(np.arange(stream.frames), Sampling(num_frames, stride), clip.view.position)
        for index, frame in enumerate(container.decode(stream)):
            frames += [frame.to_ndarray(format="rgb24")] * int((wanted == index).sum())
            if index >= wanted[-1]:
                break
    return np.stack(frames)


def our_reader(clip: Clip, num_frames: int, stride: int) -> np.ndarray:
    return read_clip(clip.sample.path, num_frames=num_frames, stride=stride, position=clip.view.position)


class Clips(Dataset):
    """Decodes and preprocesses a clip in a loader's worker, on the CPU."""

    def __init__(
        self,
        clips: Sequence[Clip],
        labels: Sequence[int],
        processor: VJEPA2VideoProcessor,
        *,
        num_frames: int,
        stride: int,
        reader: Reader,
    ):
        self._clips, self._labels, self._processor = clips, labels, processor
        self._num_frames, self._stride, self._reader = num_frames, stride, reader

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        clip = self._clips[index]
        frames = torch.from_numpy(self._reader(clip, self._num_frames, self._stride))
        pixels = preprocess(self._processor, [frames], views=[clip.view], device=torch.device("cpu"))
        return pixels[0], self._labels[index]


def loader(clips: Clips) -> DataLoader:
    workers = min(WORKERS, usable_cpus())
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
    """Trains the head clip by clip in fp32, the whole model forward each time, and returns the metrics.

    Args:
        model: its backbone frozen.
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
    with matmul_precision("fp32"):
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
