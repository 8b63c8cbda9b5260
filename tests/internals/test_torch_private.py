"""PyTorch's private parts: that they do what they are used for, and leave the process as it was."""

import threading

import pytest
import torch
from torch._dynamo import config

from vjepa_mlflow.internals.torch_private import compiler_options, copy_each, is_fork_without_gpu, recompiling


def test_a_higher_limit_holds_in_the_block_alone() -> None:
    before = config.recompile_limit
    with recompiling(at_least=before + 1):
        assert config.recompile_limit == before + 1
        with recompiling(at_least=before + 2):
            assert config.recompile_limit == before + 2
        assert config.recompile_limit == before + 1
    assert config.recompile_limit == before


def test_a_failure_leaves_the_limit_as_it_was() -> None:
    before = config.recompile_limit
    with pytest.raises(RuntimeError, match="stop"), recompiling(at_least=before + 1):
        raise RuntimeError("stop")
    assert config.recompile_limit == before


def test_a_limit_that_is_high_enough_stays() -> None:
    before = config.recompile_limit
    with recompiling(at_least=before - 1):
        assert config.recompile_limit == before


def test_threads_find_the_limit_as_it_was() -> None:
    limits: list[int] = []

    def compile_there() -> None:
        with recompiling(at_least=99):
            limits.append(config.recompile_limit)
        limits.append(config.recompile_limit)

    before = config.recompile_limit
    thread = threading.Thread(target=compile_there)
    with recompiling(at_least=77):
        thread.start()
        thread.join(timeout=0.1)
        assert config.recompile_limit == 77
        assert limits == []  # it waits
    thread.join()
    assert limits == [99, before]
    assert config.recompile_limit == before


def test_the_compiler_takes_the_options() -> None:
    known = torch._inductor.list_options()
    assert set(compiler_options()) <= set(known)


def test_tensors_are_cast_as_one_by_one() -> None:
    tensors = (torch.randn(5), torch.randn(2, 3))
    copies = tuple(torch.empty(tensor.shape, dtype=torch.bfloat16) for tensor in tensors)
    copy_each(copies, tensors)
    assert all(torch.equal(copy, tensor.to(torch.bfloat16)) for copy, tensor in zip(copies, tensors, strict=True))


def test_a_process_that_is_no_fork_may_use_a_gpu() -> None:
    assert is_fork_without_gpu() is False
