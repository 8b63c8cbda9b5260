import threading

import pytest
import torch

from vjepa_mlflow import UserError
from vjepa_mlflow.model import autocast, choose_device, cpu_threads, is_out_of_memory, matmul_precision


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_gpu_is_named_with_its_number(name: str) -> None:
    assert choose_device(name) == torch.device("cuda", 0)


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "mps", "cpu:one", ""])
def test_devices_that_are_not_there_are_named(name: str) -> None:
    with pytest.raises(UserError, match=f"device={name}: .*expected auto"):
        choose_device(name)


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_tf32_is_allowed_only_for_tf32_and_only_inside(precision: str, allowed: bool) -> None:
    def state() -> tuple:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    before = state()
    with matmul_precision(precision):
        assert (torch.get_float32_matmul_precision() == "high") is allowed
        assert torch.backends.cudnn.allow_tf32 is allowed
    assert state() == before


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_only_bf16_casts(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(2, 2)
    with autocast(torch.device("cpu"), precision):
        assert layer(torch.ones(1, 2)).dtype == dtype


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB."), True),
        (RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_memory_that_ran_out_is_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_threads_that_compute_at_once_leave_the_count_as_it_was() -> None:
    before = torch.get_num_threads()
    inside, leave = threading.Event(), threading.Event()
    found = []

    def other() -> None:
        with cpu_threads(before + 1):
            inside.set()
            leave.wait(60)
            found.append(torch.get_num_threads())

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(60)
    with cpu_threads(before + 2):
        leave.set()
        thread.join()
        with cpu_threads(before + 3):
            found.append(torch.get_num_threads())
        found.append(torch.get_num_threads())
    assert found == [before + 1, before + 3, before + 2]
    assert torch.get_num_threads() == before
    started = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    started.start()
    started.join()
    assert found[-1] == before
