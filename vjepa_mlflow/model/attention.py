"""Ways to compute attention: fast ones, and ones whose gradients are the same every time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values of shape (clips, heads, tokens, head size) to values of the same shape."""


def fused_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The fastest kernel there is: on an H200 cuDNN's, 0.9 ms a clip of the ViT-L where flash attention takes 1.4."""
    kernels = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(kernels, set_priority=True):
        return F.scaled_dot_product_attention(query, key, value)


@cache
def have_kernels_ordered(device: torch.device) -> None:
    """Has PyTorch decide in which order it tries its attention kernels on this GPU, as it does at its first attention.

    If that were inside of `fused_attention`, the order that comes back after the block would be another one, and what
    a head says would depend, in its last bits, on whether its process has encoded anything.
    """
    some = torch.zeros(1, 1, 8, 64, dtype=torch.float16, device=device)
    F.scaled_dot_product_attention(some, some, some)


def plain_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention written out. It keeps the scores, and its gradients are the same every time."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    return scores.softmax(dim=-1) @ value


def scaled_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`plain_attention` with fewer passes over the scores, where nothing is compiled: the queries are scaled."""
    return (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1) @ value


def steady_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Flash attention, for a GPU and bf16, with gradients that are the same every time."""
    attended: Tensor = _SteadyAttention.apply(query, key, value)
    return attended


class _SteadyAttention(torch.autograd.Function):
    """Has PyTorch's kernel add in a fixed order, as it does only while all algorithms are to be deterministic.

    That holds for the kernel alone: elsewhere PyTorch would fill all memory that it takes, and refuse cuBLAS.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        ctx.inputs = [tensor.detach().requires_grad_() for tensor in inputs]
        with torch.enable_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            ctx.attended = F.scaled_dot_product_attention(*ctx.inputs)
        return ctx.attended.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        with _deterministic():
            return torch.autograd.grad(ctx.attended, ctx.inputs, gradients)


@contextmanager
def _deterministic() -> Iterator[None]:
    # Not with `torch.use_deterministic_algorithms`, which imports the compiler to tell it as well.
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
