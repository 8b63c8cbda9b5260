"""Work and copies on the GPU beside its main work. On the CPU there is nothing to it."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


@functools.cache
def _side_stream(device: torch.device, purpose: str) -> torch.cuda.Stream:  # noqa: ARG001, one for each purpose
    return torch.cuda.Stream(device, priority=-1)


def preprocess_beside(make: Callable[[], Tensor], device: torch.device) -> Tensor:
    """Makes a tensor on a stream of its own, so that frames are copied and resized while the encoder works."""
    if device.type == "cpu":
        return make()
    main, side = torch.cuda.current_stream(device), _side_stream(device, "preprocessing")
    with torch.cuda.stream(side):
        made = make()
    main.wait_stream(side)
    made.record_stream(main)
    return made


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
    stream = _side_stream(features.device, "copying")
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
    with torch.cuda.stream(_side_stream(device, "copying")):
        copy = features.pin_memory().to(device, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
    done.synchronize()
    # It was allocated for the copying stream, and is used by another.
    copy.record_stream(torch.cuda.default_stream(device))
    return copy
