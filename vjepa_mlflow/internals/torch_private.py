"""What this package uses of PyTorch that PyTorch does not document.

Looked at in PyTorch 2.14, of torch>=2.6,<3. Nothing of it is imported before it is used.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_LIMIT = threading.RLock()


@contextmanager
def recompiling(*, at_least: int) -> Iterator[None]:
    """Has a function be compiled for so many shapes in the block before PyTorch gives it up, which is 8 by itself.

    `torch.compile` takes such a limit for a function alone only in later versions than the first that is allowed. The
    setting is the thread's in some versions and the process's in others: threads wait for each other's blocks, and
    find it as it was.
    """
    from torch._dynamo import config

    with _LIMIT:
        before = config.recompile_limit
        if before >= at_least:
            yield
            return
        config.recompile_limit = at_least
        try:
            yield
        finally:
            config.recompile_limit = before


def compiler_options() -> dict[str, Any]:
    """Has kernels be chosen without benchmarks, which may choose others, and so other roundings, the next time.

    Versions that lack the option refuse it, and no public function says whether there is one.
    """
    from torch._inductor import config

    return {"deterministic": True} if hasattr(config, "deterministic") else {}


def compilations_folder() -> str:
    """Where compiled kernels are now, which messages name; PyTorch documents only how to choose it."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return cache_dir()


def forget_compilations() -> None:
    """Has this process look again for what was compiled: `torch.compiler.reset` forgets functions, and not kernels."""
    from torch._inductor.utils import clear_caches

    clear_caches()


def copy_each(copies: "tuple[Tensor, ...]", tensors: "tuple[Tensor, ...]") -> None:
    """Copies tensors into others in one kernel, also of another type; publicly it takes one for each."""
    import torch

    torch._foreach_copy_(copies, tensors)


def is_fork_without_gpu() -> bool:
    """Whether this process was forked from one that had used a GPU; publicly that is told by an error alone."""
    import torch

    return torch.cuda._is_in_bad_fork()
