"""The supervised pretraining of backbone and head together."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import VJEPA2ForVideoClassification, get_cosine_schedule_with_warmup
from transformers.modeling_outputs import ImageClassifierOutput

from tools.pretrain_tiny.course import Course

LEARNING_RATE = 1e-3
WARMUP = 0.1
"""Share of the steps."""
WEIGHT_DECAY = 0.05
BETAS = (0.9, 0.98)
LABEL_SMOOTHING = 0.1
MAX_GRADIENT_NORM = 1.0

LOG_EVERY = 100
"""Steps."""


class Entry(NamedTuple):
    """Means over the steps since the entry before; fields are the log's columns."""

    step: int
    loss: float
    accuracy: float
    seconds: float


def pretrain(model: VJEPA2ForVideoClassification, course: Course, *, steps: int, batch_size: int) -> Iterator[Entry]:
    """Trains the model in place, in bf16 autocast; yields an entry of the log every `LOG_EVERY` steps."""
    device = model.device
    optimizer = _make_optimizer(model)
    scheduler = get_cosine_schedule_with_warmup(optimizer, round(WARMUP * steps), steps)
    classify: Callable[..., ImageClassifierOutput] = model
    if device.type == "cuda":
        classify = torch.compile(model, mode="reduce-overhead")  # a GPU waits for the launches of so small a model
    losses, hits = torch.zeros((), device=device), torch.zeros((), device=device)
    started = time.perf_counter()

    batches = course.batches(steps, batch_size=batch_size, frames=model.config.frames_per_clip)
    bar = tqdm(batches, total=steps, desc="Pretraining", unit="step", disable=None)
    for step, (pixels, labels) in enumerate(bar, start=1):
        with torch.autocast(device.type, torch.bfloat16):
            logits = classify(pixels).logits
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()

        losses += loss.detach()
        hits += (logits.argmax(-1) == labels).float().mean()
        if step % LOG_EVERY == 0 or step == steps:
            count = (step - 1) % LOG_EVERY + 1
            yield Entry(step, losses.item() / count, hits.item() / count, time.perf_counter() - started)
            losses.zero_()
            hits.zero_()


def _make_optimizer(model: VJEPA2ForVideoClassification) -> torch.optim.Optimizer:
    """AdamW, which decays matrices but neither biases nor norms. The predictor, without gradients, stays as it is."""
    parameters = list(model.parameters())
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1]},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = model.device.type == "cuda" or None
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=fused)
