"""Where and in which numeric format the model computes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import ClassVar, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vjepa_mlflow.errors import UserError
from vjepa_mlflow.runtime.ranks import local_rank


def choose_device(name: str) -> torch.device:
    """Resolves `auto` to the GPU where there is one.

    Raises:
        UserError: the name is no device, or the GPU that it asks for is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device={name}: expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", local_rank())  # of the processes that torchrun starts, each has its own
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device={name}: expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and device.index >= torch.cuda.device_count():
        raise UserError(f"device={name}: this machine has {torch.cuda.device_count()} CUDA GPUs: expected auto or cpu")
    return device


def use_device(name: str) -> torch.device:
    """Like `choose_device`, and makes a GPU this process's current one, where compiled kernels are launched."""
    device = choose_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


MEMORY_RAN_OUT = (
    "CUDA error: out of memory",
    "can't allocate memory",
    "could not create a primitive",
    "could not create a memory object",
)
"""What CUDA, PyTorch on the host and oneDNN say then, in errors of no kind of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU's memory, or the host's, ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in MEMORY_RAN_OUT)


def describe_device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


class _Precision(NamedTuple):
    """How this process multiplies matrices."""

    matmul: str
    convolutions: bool

    @classmethod
    def now(cls) -> "_Precision":
        return cls(torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)

    def set(self) -> None:
        torch.set_float32_matmul_precision(self.matmul)
        torch.backends.cudnn.allow_tf32 = self.convolutions


class _Precisions:
    """Those of the blocks of `matmul_precision` that are open, after the one outside; the last of them is in force.

    Blocks of several threads may end in any order: each takes its own away.
    """

    lock = threading.Lock()
    open: ClassVar[dict[object, _Precision]] = {}

    @classmethod
    def enter(cls, block: object, precision: _Precision) -> None:
        with cls.lock:
            cls.open.setdefault("outside", _Precision.now())
            cls.open[block] = precision
            precision.set()

    @classmethod
    def leave(cls, block: object) -> None:
        with cls.lock:
            del cls.open[block]
            list(cls.open.values())[-1].set()
            if len(cls.open) == 1:
                cls.open.clear()


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Allows TF32 inside the block for `tf32`, and forbids it for the other formats, in all threads of the process."""
    is_tf32, block = precision == "tf32", object()
    _Precisions.enter(block, _Precision("high" if is_tf32 else "highest", is_tf32))
    try:
        yield
    finally:
        _Precisions.leave(block)


class _ThreadCounts(threading.local):
    """What each thread in blocks of `cpu_threads` returns to: what PyTorch says there may come from another's block."""

    lock = threading.Lock()
    blocks = 0
    outside = 0

    def __init__(self) -> None:
        self.before: list[int] = []

    def enter(self) -> None:
        with self.lock:
            if not _ThreadCounts.blocks:
                _ThreadCounts.outside = torch.get_num_threads()
            _ThreadCounts.blocks += 1
        self.before.append(torch.get_num_threads() if self.before else _ThreadCounts.outside)

    def leave(self) -> int:
        with self.lock:
            _ThreadCounts.blocks -= 1
        return self.before.pop()


_THREAD_COUNTS = _ThreadCounts()


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Has PyTorch compute with so many threads inside the block, in this thread of Python's."""
    _THREAD_COUNTS.enter()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(_THREAD_COUNTS.leave())


@contextmanager
def training_numerics(device: torch.device, precision: str) -> Iterator[None]:
    """For one forward pass whose backward pass must give the same bits every time.

    bf16 arithmetic for `bf16`; not to be held open over optimizer steps, since it keeps cast weights until it is left.
    On a GPU the fused attention kernels add up their gradients in no fixed order. The plain one always gives the same
    and took 18.2 ms a step where they took 17.5 (fp32, H200); their deterministic mode cost 46 ms more.
    """
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cuda" else nullcontext()
    with autocast(device, precision), attention:
        yield


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 arithmetic for `bf16`, for a forward pass alone."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
