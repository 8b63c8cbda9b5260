import copy

import pytest
import torch
from torch import nn

from vjepa_mlflow.training.adam import Adam

GPU = torch.cuda.is_available()


def make_layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 33), nn.GELU(), nn.Linear(33, 3), nn.Linear(1, 1))  # the last has no gradient


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif("not torch.cuda.is_available()")])],
)
def test_it_is_pytorchs_to_the_bit_also_after_a_pause(device: str) -> None:
    ours = make_layers().to(device)
    theirs = copy.deepcopy(ours)
    on_gpu = device == "cuda"
    optimizer, expected = Adam(ours.parameters()), torch.optim.Adam(theirs.parameters(), fused=on_gpu, foreach=False)
    for step in range(20):
        clips = torch.randn(5, 7, generator=torch.Generator().manual_seed(step)).to(device)
        for layers in (ours, theirs):
            layers.zero_grad()
            layers[:3](clips).square().mean().backward()
        optimizer.step(1e-2 / (step + 1))
        expected.param_groups[0]["lr"] = 1e-2 / (step + 1)
        expected.step()
        if step == 10:
            kept = {name: moment.clone() for name, moment in optimizer.moments().items()}
            optimizer = Adam(ours.parameters())
            optimizer.load(kept)
    assert all(torch.equal(*both) for both in zip(ours.parameters(), theirs.parameters(), strict=True))
