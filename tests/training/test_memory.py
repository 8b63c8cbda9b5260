"""Training where the host's memory is short, in a process that is held to so much of it."""

import subprocess
import sys

import pytest
from helpers import environment

SCRIPT = """
import resource, sys
from types import SimpleNamespace
import psutil, torch
from vjepa_mlflow import UserError
from vjepa_mlflow.features import LabelledFeatures
from vjepa_mlflow.model import Head
from vjepa_mlflow.training.gradient import HeadPasses, AccumulatedGradient

torch.set_num_threads(1)
torch.manual_seed(0)
architecture = SimpleNamespace(
    hidden_size=64, num_attention_heads=2, num_pooler_layers=3, layer_norm_eps=1e-6, hidden_act="gelu",
    attention_dropout=0.0,
)
head = Head(architecture, num_labels=3)
window = [LabelledFeatures(torch.randn(1024, 64), number % 3) for number in range(16)]

def gradient(clips):
    sizes = {"clips_per_step": len(clips), "class_weights": torch.ones(3)}
    pass_ = AccumulatedGradient(HeadPasses(head, precision="fp32", form="transformers"), **sizes)
    head.zero_grad()
    pass_.compute(clips)
    return [parameter.grad.clone() for parameter in head.parameters()]

gradient(window[:1])  # with all that is allocated once
before = psutil.Process().memory_info().vms
expected = gradient(window)

for mebibytes in (120, 1):
    print(f"{mebibytes} MiB", file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_AS, (before + mebibytes * 2**20, resource.RLIM_INFINITY))
    try:
        found = gradient(window)
    except UserError as error:
        print(error)
    else:
        print(max((one - other).abs().max().item() for one, other in zip(found, expected)) < 1e-5)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
def test_fewer_clips_go_at_once_until_they_fit_and_where_not_even_one_does_that_is_said() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        # What is freed is given back at once, so that the limit is one.
        env=environment(OMP_NUM_THREADS="1", MALLOC_ARENA_MAX="1", MALLOC_MMAP_THRESHOLD_="65536"),
        capture_output=True,
        text=True,
        check=True,
    )
    enough, little = done.stdout.splitlines()
    halved, to_the_end = (part.splitlines()[1:] for part in done.stderr.split("120 MiB")[1].split("1 MiB"))
    assert enough == "True"
    assert halved[0] == "Memory ran out: 8 clips go through the head at once from here on"
    assert little == (
        "device=cpu: its memory is too small to train with one clip at once: expected more, or precision=bf16"
    )
    assert to_the_end[-1] == "Memory ran out: 1 clips go through the head at once from here on"
