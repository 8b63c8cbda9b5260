"""A training's state, copied off a CUDA GPU."""

from typing import Any

import pytest
import torch

from vjepa_mlflow.training import HostMemory, TrainingState
from vjepa_mlflow.training.adam import Adam

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


def test_a_snapshot_is_what_the_gpu_held_then_and_lies_in_page_locked_memory() -> None:
    head: Any = torch.nn.Linear(4096, 4096, device="cuda")
    optimizer = Adam(head.parameters())
    state = TrainingState(head, optimizer)
    memory = HostMemory()
    places: set[int] = set()
    for _ in range(3):
        with state.changing():
            head(torch.randn(16, 4096, device="cuda")).square().sum().backward()
            optimizer.step(1e-3)
        expected = {name: weight.clone() for name, weight in head.state_dict().items()}
        snapshot = state.snapshot(memory)
        with torch.no_grad():
            head.weight.zero_()  # what training does next changes nothing of it
        kept = snapshot.part("head")
        assert all(torch.equal(kept[name], weight.cpu()) for name, weight in expected.items())
        assert all(kept[name].is_pinned() for name in kept)
        places.add(kept["weight"].data_ptr())
    assert len(places) == 1
