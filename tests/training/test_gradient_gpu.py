"""The head's gradient at the real size on a CUDA GPU."""

from pathlib import Path

import pytest
import torch
from helpers import gpu_memory_left
from torch.nn import functional as F
from transformers import VJEPA2ForVideoClassification

from vjepa_mlflow.features import LabelledFeatures
from vjepa_mlflow.model import Head, from_folder, load_classifier, matmul_precision
from vjepa_mlflow.training.gradient import WindowGradient

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
DEVICE = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def large(vit_large: Path) -> VJEPA2ForVideoClassification:
    return load_classifier(from_folder("large", vit_large), ["a", "b", "c"], seed=0).to(DEVICE)


def make_window(count: int, dtype: torch.dtype) -> list[LabelledFeatures]:
    generator = torch.Generator(DEVICE).manual_seed(count)
    return [
        LabelledFeatures(torch.randn(2048, 1024, device=DEVICE, generator=generator).to(dtype), index % 3)
        for index in range(count)
    ]


def make_gradient(model: VJEPA2ForVideoClassification, precision: str, window_size: int) -> WindowGradient:
    return WindowGradient(
        Head(model),
        model.config,
        precision=precision,
        window_size=window_size,
        class_weights=torch.tensor([1.0, 2.0, 3.0], device=DEVICE),
    )


def transformers_gradients(model: VJEPA2ForVideoClassification, window: list[LabelledFeatures]) -> dict:
    """In fp32, by transformers' own modules."""
    head = Head(model)
    head.zero_grad()
    logits = head(torch.stack([clip.features.float() for clip in window]))
    labels = torch.tensor([clip.label for clip in window], device=DEVICE)
    F.cross_entropy(logits, labels, weight=torch.tensor([1.0, 2.0, 3.0], device=DEVICE)).backward()
    return {name: parameter.grad.clone() for name, parameter in head.named_parameters()}


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("tf32", 1e-2), ("bf16", 5e-2)])
def test_full_and_partial_windows_have_transformers_gradient(
    large: VJEPA2ForVideoClassification, precision: str, tolerance: float
) -> None:
    with matmul_precision(precision):
        gradient = make_gradient(large, precision, window_size=4)
        for count in (4, 3, 4, 1):
            window = make_window(count, torch.bfloat16 if precision == "bf16" else torch.float32)
            predictions = gradient.compute(window)
            assert predictions.logits.shape == (count, 3)
            found = {name: one.grad.clone() for name, one in Head(large).named_parameters() if one.grad is not None}
            with matmul_precision("fp32"):
                expected = transformers_gradients(large, window)
            gradient = make_gradient(large, precision, window_size=4)  # the comparison took the gradients' place
            for name, one in found.items():
                if "k_proj.bias" not in name:
                    assert (one - expected[name]).norm() < tolerance * expected[name].norm(), (count, name)


def test_large_windows_add_up(large: VJEPA2ForVideoClassification) -> None:
    window = make_window(37, torch.bfloat16)
    gradient = make_gradient(large, "bf16", window_size=40)
    gradient.compute(window)  # a second time, over what the first one left
    gradient.compute(window)
    found = {name: one.grad.clone() for name, one in Head(large).named_parameters() if one.grad is not None}
    expected = transformers_gradients(large, window[:16]), transformers_gradients(large, window)
    for name, one in found.items():
        if "k_proj.bias" not in name:
            assert (one - expected[1][name]).norm() < 0.05 * expected[1][name].norm(), name


def test_when_memory_runs_out_fewer_clips_go_at_once(
    large: VJEPA2ForVideoClassification, capsys: pytest.CaptureFixture[str]
) -> None:
    window = make_window(16, torch.float32)
    large.zero_grad()
    with matmul_precision("fp32"), gpu_memory_left(6):  # GiB, less than 16 clips need in fp32
        gradient = make_gradient(large, "fp32", window_size=16)
        gradient.compute(window)
    assert gradient._at_once < 16
    assert f"Memory ran out: {gradient._at_once} clips go through the head" in capsys.readouterr().err
    found = {name: one.grad.clone() for name, one in Head(large).named_parameters() if one.grad is not None}
    expected = transformers_gradients(large, window)
    for name, one in found.items():
        if "k_proj.bias" not in name:
            assert (one - expected[name]).norm() < 1e-3 * expected[name].norm(), name
