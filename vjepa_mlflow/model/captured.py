"""CUDA graphs: launching the kernels of a pass one by one can take longer than running them."""

from collections.abc import Callable

import torch
from torch import Tensor


class Captured:
    """A function of tensors of fixed shapes, recorded once and replayed from then on.

    Args:
        function: whatever it does on the GPU is recorded; nothing else is done again.
        inputs: of the shapes and types that all later calls have.

    Raises:
        torch.OutOfMemoryError: the graph does not fit the GPU's memory.
    """

    def __init__(self, function: Callable[..., Tensor], *inputs: Tensor):
        self._inputs = [torch.empty_like(tensor).copy_(tensor) for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        try:
            # Other threads go on loading features meanwhile: only this one's calls are part of the graph.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._output = function(*self._inputs)
        except RuntimeError as error:
            if isinstance(error.__context__, torch.OutOfMemoryError):  # which leaves the recording as another error
                raise error.__context__ from None
            raise

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function's result, which the next call overwrites."""
        for static, tensor in zip(self._inputs, inputs, strict=True):
            static.copy_(tensor)
        self._graph.replay()
        return self._output


def warm_up(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Calls a function once as recording will, so that what it compiles and allocates for good is done before."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
