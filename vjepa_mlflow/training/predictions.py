"""Logits of a set, and the batches they are made of."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.features import EvaluationSet, LabelledFeatures
from vjepa_mlflow.model import Head, autocast, is_out_of_memory
from vjepa_mlflow.runtime.iteration import batches, progress

EVALUATION_BATCH = 16


class Predictions(NamedTuple):
    """Logits of shape (clips, classes) and class indices of shape (clips,)."""

    logits: Tensor
    labels: Tensor


@torch.no_grad()
def predict(
    head: Head,
    clips: EvaluationSet,
    *,
    precision: str,
    name: str,
    on_batch: Callable[[], None] = lambda: None,
    make_room: Callable[[], bool] = lambda: False,
) -> Predictions:
    """Runs the head over a set, as transformers does; the predictions are on the CPU.

    Args:
        head: on its device.
        clips: the set.
        precision: the recipe's.
        name: of the set, for the progress bar.
        on_batch: called before each batch goes through the head; what it raises ends the prediction.
        make_room: called where memory runs out, before fewer clips go through at once, from which other last bits come;
            it returns whether it has given any back.
    """
    device = next(head.parameters()).device
    head.eval()
    outputs = []
    bar = progress(clips.read(), total=len(clips), description=name, unit="clip")
    for batch in batches(bar, EVALUATION_BATCH):
        on_batch()
        outputs += _predict(head, batch, device, precision, make_room)
    head.train()
    return gather(outputs)


def _predict(
    head: Head,
    batch: Sequence[LabelledFeatures],
    device: torch.device,
    precision: str,
    make_room: Callable[[], bool],
) -> list[Predictions]:
    """Of all clips at once, or where that is too much for the memory of each half."""
    try:
        return [_predict_at_once(head, batch, device, precision)]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()
    middle = len(batch) // 2
    if make_room():
        parts = [batch]
    elif middle:
        parts = [batch[:middle], batch[middle:]]
    else:
        raise UserError(f"device={device}: its memory is too small for the head with one clip at once: expected more")
    return [output for part in parts for output in _predict(head, part, device, precision, make_room)]


def _predict_at_once(
    head: Head, batch: Sequence[LabelledFeatures], device: torch.device, precision: str
) -> Predictions:
    features = torch.stack([clip.features for clip in batch])
    labels = torch.tensor([clip.label for clip in batch]).to(device, non_blocking=True)
    with autocast(device, precision):
        return Predictions(head(features.float()), labels)


def gather(outputs: Sequence[Predictions]) -> Predictions:
    """All predictions one after the other, on the CPU.

    Raises:
        UserError: there are none.
    """
    if not outputs:
        raise UserError("none of a set's videos can be read any more: expected some (bad_videos=skip)")
    logits, labels = zip(*outputs, strict=True)
    return Predictions(torch.cat(logits).float().cpu(), torch.cat(labels).cpu())
