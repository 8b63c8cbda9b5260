"""CUDA graphs: launching the kernels of a pass one by one can take longer than running them."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


class Captured:
    """A function of tensors of fixed shapes, recorded once and replayed from then on.

    It is rehearsed before, in the memory that the graph will have, so that recording it takes next to none. Where
    memory runs out while it is recorded, the allocator of PyTorch 2.11 and before believes for good that a recording is
    under way, and frees nothing any more (https://github.com/pytorch/pytorch/pull/180395).

    Args:
        function: whatever it does on the GPU is recorded; nothing else is done again. It does the same whenever it is
            called.
        inputs: of the shapes and types that all later calls have.

    Raises:
        torch.OutOfMemoryError: the graph does not fit the GPU's memory.
    """

    def __init__(self, function: Callable[..., Tensor], *inputs: Tensor):
        self._graph = torch.cuda.CUDAGraph()
        self._memory = torch.cuda.MemPool()
        self._inputs = [torch.empty_like(tensor).copy_(tensor) for tensor in inputs]
        stream = _stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        torch.cuda.empty_cache()  # which is not done by itself where the memory of a graph is short
        # With a thread of its own, a backward pass would take its memory elsewhere.
        with torch.autograd.set_multithreading_enabled(False):
            with torch.cuda.stream(stream), torch.cuda.use_mem_pool(self._memory):
                function(*self._inputs)
            with torch.cuda.graph(
                self._graph,
                pool=self._memory.id,  # type: ignore[arg-type]
                stream=stream,
                # Other threads go on loading features meanwhile: only this one's calls are part of the graph.
                capture_error_mode="thread_local",
            ):
                self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function's result, which the next call overwrites."""
        for static, tensor in zip(self._inputs, inputs, strict=True):
            static.copy_(tensor)
        self._graph.replay()
        return self._output

    def __del__(self) -> None:
        self._graph.reset()  # PyTorch insists that nobody uses the memory any more when it goes


@cache
def _stream(_: int) -> torch.cuda.Stream:
    """The stream that all graphs of a GPU are recorded on: cuBLAS keeps some memory for each that it ever worked on."""
    return torch.cuda.Stream()
