"""Features to and from the GPU beside what it computes. On the CPU nothing needs to move."""

import functools

import torch
from torch import Tensor


@functools.cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def when_computed(features: Tensor) -> torch.cuda.Event | None:
    """Marks the moment at which the work queued so far, and with it these features, is done."""
    if features.device.type == "cpu":
        return None
    event = torch.cuda.Event()
    event.record()
    return event


def to_host(features: Tensor, computed: torch.cuda.Event | None) -> Tensor:
    """A copy in the host's memory. Blocks the calling thread, which should not be the one that feeds the GPU."""
    if computed is None:
        return features
    stream = _copying(features.device)
    with torch.cuda.stream(stream):
        stream.wait_event(computed)
        copy = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
        copy.copy_(features, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
    done.synchronize()
    return copy


def to_device(features: Tensor, device: torch.device) -> Tensor:
    """A copy in the device's memory. Blocks the calling thread, which should not be the one that feeds the GPU."""
    if device.type == "cpu":
        return features
    with torch.cuda.stream(_copying(device)):
        copy = features.pin_memory().to(device, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
    done.synchronize()
    # It was allocated for the copying stream, and is used by another.
    copy.record_stream(torch.cuda.default_stream(device))
    return copy
