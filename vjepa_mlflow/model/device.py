"""Where and in which numeric format the model computes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vjepa_mlflow.errors import UserError


def choose_device(name: str) -> torch.device:
    """Resolves `auto` to the GPU where there is one.

    Raises:
        UserError: the name is no device, or the GPU that it asks for is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device={name}: expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device={name}: expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device={name}: this machine has {torch.cuda.device_count()} CUDA GPUs: expected auto or cpu")
    return device


def describe_device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextmanager
def reproducible(precision: str) -> Iterator[None]:
    """Inside the block the same inputs give the same bits, and TF32 is allowed for `tf32` and for nothing else."""
    before = (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with one of two values
    _set_numerics("high" if precision == "tf32" else "highest", precision == "tf32", True)
    try:
        yield
    finally:
        _set_numerics(*before)


def _set_numerics(matmul_precision: str, cudnn_tf32: bool, deterministic: bool) -> None:
    torch.set_float32_matmul_precision(matmul_precision)
    torch.backends.cudnn.allow_tf32 = cudnn_tf32
    torch.use_deterministic_algorithms(deterministic)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 arithmetic for `bf16`. To be entered for each forward pass: it keeps cast weights until it is left."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
