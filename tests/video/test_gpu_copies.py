"""Where frames of a GPU are copied to."""

import mmap

import numpy as np

from vjepa_mlflow.video.gpu_copies import memory_of


def test_part_of_mapped_memory() -> None:
    memory = mmap.mmap(-1, 4096)
    mapped = np.frombuffer(memory, np.uint8)

    assert memory_of(mapped[:3000].reshape(2, 1500)[1]) is memory


def test_array_of_its_own() -> None:
    assert memory_of(np.empty(4096, np.uint8)[:3000]) is None
