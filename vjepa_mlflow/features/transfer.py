"""Work and copies on the GPU beside its main work. On the CPU there is nothing to it."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import torch
from torch import Tensor

from vjepa_mlflow.runtime.streams import Pin, no_pin


@functools.cache
def _side_stream(device: torch.device, purpose: str) -> torch.cuda.Stream:  # noqa: ARG001, one for each purpose
    return torch.cuda.Stream(device, priority=-1)


@contextmanager
def beside(device: torch.device) -> Iterator[None]:
    """What a block computes for preprocessing, it computes on a stream of its own, while the encoder works."""
    if device.type == "cpu":
        yield
        return
    with torch.cuda.stream(_side_stream(device, "preprocessing")):
        yield


def from_beside(made: Tensor) -> Tensor:
    """What was computed `beside`, for use on the main stream, which waits for it."""
    if made.device.type != "cpu":
        main = torch.cuda.current_stream(made.device)
        main.wait_stream(_side_stream(made.device, "preprocessing"))
        made.record_stream(main)
    return made


def when_computed(device: torch.device) -> torch.cuda.Event | None:
    """Marks the moment at which the work queued so far is done."""
    if device.type == "cpu":
        return None
    event = torch.cuda.Event(blocking=True)
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
        done = torch.cuda.Event(blocking=True)
        done.record()
    done.synchronize()
    return copy


def pin_for(device: torch.device) -> Pin:
    """What makes memory of other processes such that a GPU copies from it without help, where that can be done."""
    if device.type == "cpu":
        return no_pin

    def pin(memory: memoryview) -> Callable[[], None]:
        address, runtime = np.frombuffer(memory, np.uint8).ctypes.data, torch.cuda.cudart()
        with torch.cuda.device(device):
            if int(runtime.cudaHostRegister(address, len(memory), 0)):
                with suppress(RuntimeError):  # which is that error, or else another one would be taken for it
                    torch.zeros(1, device=device)
                return lambda: None
        return lambda: runtime.cudaHostUnregister(address)

    return pin


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A copy in the device's memory. Blocks the calling thread, which should not be the one that feeds the GPU."""
    if device.type == "cpu":
        return values
    with torch.cuda.stream(_side_stream(device, "copying")):
        copy = (values if values.is_pinned() else values.pin_memory()).to(device, non_blocking=True)
        done = torch.cuda.Event(blocking=True)
        done.record()
    done.synchronize()
    # It was allocated for the copying stream, and is used by others.
    copy.record_stream(torch.cuda.default_stream(device))
    copy.record_stream(_side_stream(device, "preprocessing"))
    return copy
