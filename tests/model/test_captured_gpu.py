"""CUDA graphs where memory is short, and where they go."""

from threading import Thread

import pytest
import torch
from helpers import gpu_memory_left, reserved
from torch import Tensor, nn

from vjepa_mlflow.model import Captured

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


class Pass:
    """A forward and a backward pass that notes how much memory PyTorch has after it."""

    def __init__(self) -> None:
        self.net = nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 1024)).cuda()
        self.reserved: list[int] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        self.net.zero_grad()
        outputs = self.net(inputs)
        outputs.square().mean().backward()
        self.reserved.append(torch.cuda.memory_reserved())
        return outputs.detach()

    def memory(self) -> int:
        """Bytes that PyTorch has where there are no gradients."""
        self.net.zero_grad()
        return reserved()


def test_it_does_what_the_function_does_and_records_without_taking_memory() -> None:
    done = Pass()
    inputs = torch.randn(2, 8192, 1024, device="cuda")
    captured = Captured(done, inputs[0])
    assert done.reserved[1] <= done.reserved[0] + 2 * 2**20  # for the recording itself
    found = captured(inputs[1]).clone()
    gradient = done.net[0].weight.grad.clone()
    expected = done(inputs[1])
    assert torch.equal(found, expected)
    assert torch.equal(gradient, done.net[0].weight.grad)


def test_when_memory_runs_out_there_is_as_much_as_before() -> None:
    done = Pass()
    small = torch.randn(1024, 1024, device="cuda")
    expected = done(small)
    before = done.memory()
    with gpu_memory_left(2):
        for _ in range(3):
            with pytest.raises(torch.OutOfMemoryError):
                Captured(done, small.expand(64, -1, -1))
        captured = Captured(done, small)
        assert torch.equal(captured(small), expected)
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
        del captured
    assert done.memory() <= before + 64 * 2**20  # cuBLAS has taken some for good


def test_graphs_may_go_while_another_is_recorded() -> None:
    done = Pass()
    inputs = torch.randn(8192, 1024, device="cuda")
    expected = done(inputs)
    before = done.memory()
    others = [Captured(done, inputs) for _ in range(4)]

    def forget_two(inputs: Tensor) -> Tensor:
        others.pop()
        thread = Thread(target=others.pop)
        thread.start()
        thread.join()
        return done(inputs)

    captured = Captured(forget_two, inputs)  # which calls it for the rehearsal and for the recording
    assert not others
    assert torch.equal(captured(inputs), expected)
    del captured
    assert done.memory() <= before + 64 * 2**20  # cuBLAS has taken some for good
