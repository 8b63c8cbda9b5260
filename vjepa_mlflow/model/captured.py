"""CUDA graphs: launching the kernels of a pass one by one can take longer than running them."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor


class _Recordings:
    """The recordings under way, and the graphs that nobody needs any more, with their memory.

    PyTorch ends the process where the memory of a graph is given back while that of another one is taken
    (https://github.com/pytorch/pytorch/pull/182062). A graph may go at any time and in any thread, since Python
    collects garbage when it sees fit: until nothing is recorded, it is kept.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._under_way = 0
        self._gone: deque[dict[str, Any]] = deque()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        with self._lock:
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
            self._free()

    def give_back(self, used: dict[str, Any]) -> None:
        """Empties what holds a graph and its memory, so that they go here and nowhere else."""
        self._gone.append(dict(used))
        used.clear()
        self._free()

    def _free(self) -> None:
        # Who has the lock either looks again or is recording: nobody who forgets a graph waits.
        while self._gone and self._lock.acquire(blocking=False):
            try:
                if self._under_way:
                    return
                with suppress(IndexError):  # another thread was faster
                    self._gone[0]["_graph"].reset()  # PyTorch insists that nobody uses its memory when that goes
                    del self._gone[0]
            finally:
                self._lock.release()


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

    _recordings = _Recordings()

    def __init__(self, function: Callable[..., Tensor], *inputs: Tensor):
        self._graph = torch.cuda.CUDAGraph()
        self._memory = torch.cuda.MemPool()
        self._inputs = [torch.empty_like(tensor).copy_(tensor) for tensor in inputs]
        stream = _stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        torch.cuda.empty_cache()  # which is not done by itself where the memory of a graph is short
        # With a thread of its own, a backward pass would take its memory elsewhere.
        with self._recordings.one_more(), torch.autograd.set_multithreading_enabled(False):
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
        self._recordings.give_back(self.__dict__)


@cache
def _stream(_: int) -> torch.cuda.Stream:
    """The stream that all graphs of a GPU are recorded on: cuBLAS keeps some memory for each that it ever worked on."""
    return torch.cuda.Stream()
