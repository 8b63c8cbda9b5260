"""PyTorch's compiler: kernels that join what lies between matrix products, for runs long enough to win its time back.

Importing it takes seconds and compiling some more, so nothing is imported from here by a run that is shorter.
"""

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from vjepa_mlflow.errors import reason
from vjepa_mlflow.files.compilations import compilations_in, own_compilations
from vjepa_mlflow.files.temporary import temporary_folder
from vjepa_mlflow.internals.torch_private import (
    compilations_folder,
    compiler_options,
    forget_compilations,
    recompiling,
)
from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.model.attention import plain_attention

logger = get_logger(__name__)

MOST_SHAPES = 64
"""Shapes that a function is compiled for: several numbers of clips a step in a sweep, and the encoder."""


def flexible_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """PyTorch's FlexAttention: a fused kernel whose gradients, unlike the others', are the same every time.

    It is one only where it is compiled; elsewhere this is `plain_attention`.
    """
    if not torch.compiler.is_compiling():
        return plain_attention(query, key, value)
    return flex_attention(query, key, value)


@functools.cache
def compiled(function: Callable[..., Tensor]) -> "Compiled":
    """One compiled form of a function in a process, since compiling takes seconds."""
    return Compiled(function)


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Has PyTorch find nothing in the block that was compiled before."""
    with temporary_folder() as folder, compilations_in(folder):
        forget_compilations()
        try:
            yield
        finally:
            forget_compilations()


class Compiled:
    """A function compiled for fixed shapes; called as it is, with a warning, where this machine cannot compile.

    Its first argument is the one whose shape changes, its last the `Sizes`.
    """

    def __init__(self, function: Callable[..., Tensor]):
        self._function = function
        self._compiled = torch.compile(function, dynamic=False, fullgraph=True, options=compiler_options())
        self._works: dict[tuple[object, ...], bool] = {}

    def __call__(self, hidden: Tensor, *arguments: Any) -> Tensor:
        shape = (hidden.shape, hidden.device, hidden.requires_grad, torch.is_grad_enabled(), arguments[-1])
        if shape not in self._works:
            return self._first_call(shape, hidden, *arguments)
        return self._call(hidden, *arguments) if self._works[shape] else self._function(hidden, *arguments)

    def _call(self, *arguments: Any) -> Tensor:
        with recompiling(at_least=MOST_SHAPES):
            return self._compiled(*arguments)

    def _first_call(self, shape: tuple[object, ...], *arguments: Any) -> Tensor:
        try:
            with own_compilations(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = self._compile(*arguments)
            self._works[shape] = True
            return result
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of many kinds: no C compiler, no Triton, a release that fails on this function
            logger.warning(f"Not compiled, and so slower: {reason(error)}")
            self._works[shape] = False
        return self._function(*arguments)

    def _compile(self, *arguments: Any) -> Tensor:
        """Compiles and calls it; without what was compiled before, where that is of no use."""
        try:
            return self._call(*arguments)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            with _nothing_compiled():
                result = self._call(*arguments)
            logger.warning(
                f"{compilations_folder()}: what PyTorch had compiled there cannot be used ({reason(error)}): "
                f"compiled anew"
            )
            return result
