"""Training where the host's memory is short, in a process that is held to so much of it."""

import subprocess
import sys

import pytest
from helpers import environment

SCRIPT = """
import resource, sys
import psutil, torch
from transformers import VJEPA2Config, VJEPA2ForVideoClassification
from vjepa_mlflow import UserError
from vjepa_mlflow.features import LabelledFeatures
from vjepa_mlflow.model import Head
from vjepa_mlflow.training.gradient import WindowGradient

torch.set_num_threads(1)
torch.manual_seed(0)
config = VJEPA2Config(
    crop_size=32, patch_size=16, frames_per_clip=4, hidden_size=64, num_attention_heads=2, num_hidden_layers=1,
    num_pooler_layers=3, pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1, num_labels=3,
)
head = Head(VJEPA2ForVideoClassification(config))
window = [LabelledFeatures(torch.randn(int(sys.argv[2]), 64), number % 3) for number in range(16)]

def gradient(clips):
    pass_ = WindowGradient(head, config, precision="fp32", window_size=len(clips), class_weights=torch.ones(3))
    head.zero_grad()
    pass_.compute(clips)
    return [parameter.grad.clone() for parameter in head.parameters()]

gradient(window[:1])  # with all that is allocated once
limit = psutil.Process().memory_info().vms + int(sys.argv[1]) * 2**20
expected = gradient(window)
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
try:
    found = gradient(window)
except UserError as error:
    print(error)
else:
    print(max((one - other).abs().max().item() for one, other in zip(found, expected)) < 1e-5)
"""


def run(mebibytes: int, tokens: int) -> tuple[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(mebibytes), str(tokens)],
        # What is freed is given back at once, so that the limit is one.
        env=environment(OMP_NUM_THREADS="1", MALLOC_ARENA_MAX="1", MALLOC_MMAP_THRESHOLD_="65536"),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
def test_fewer_clips_go_at_once_until_they_fit() -> None:
    said, remarks = run(120, 1024)
    assert said == "True"
    assert remarks[0] == "Memory ran out: 8 clips go through the head at once from here on"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
def test_where_not_even_one_fits_that_is_said() -> None:
    said, remarks = run(1, 1024)
    assert said == (
        "device=cpu: its memory is too small to train with one clip at once: expected more, or precision=bf16"
    )
    assert remarks[-1] == "Memory ran out: 1 clips go through the head at once from here on"
