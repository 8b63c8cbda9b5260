"""The head's gradient at the real size on a CUDA GPU."""

import copy
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import gpu_memory_left, gpu_memory_needed
from torch import Tensor
from torch.nn import functional as F
from transformers import VJEPA2ForVideoClassification

from vjepa_mlflow import Recipe, UserError
from vjepa_mlflow.features import LabelledFeatures
from vjepa_mlflow.model import EAGER, LEAN, TRANSFORMERS, Head, from_folder, load_classifier, matmul_precision
from vjepa_mlflow.training import fit
from vjepa_mlflow.training.gradient import AccumulatedGradient, HeadPasses

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
DEVICE = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def large(vit_large: Path) -> VJEPA2ForVideoClassification:
    return load_classifier(from_folder("large", vit_large), ["a", "b", "c"], seed=0).to(DEVICE)


@pytest.fixture(scope="module")
def reference(large: VJEPA2ForVideoClassification) -> Head:
    """The same head, with gradients of its own."""
    return copy.deepcopy(Head.of(large))


def make_window(count: int, dtype: torch.dtype) -> list[LabelledFeatures]:
    generator = torch.Generator(DEVICE).manual_seed(count)
    return [
        LabelledFeatures(torch.randn(2048, 1024, device=DEVICE, generator=generator).to(dtype), index % 3)
        for index in range(count)
    ]


class Window:
    """A set whose features are on the GPU already."""

    def __init__(self, kept: list[LabelledFeatures]):
        self._kept, self.labels = kept, [clip.label for clip in kept]

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, *_: int, **__: int) -> Iterator[LabelledFeatures]:
        return iter(self._kept)


def make_passes(model: VJEPA2ForVideoClassification, precision: str, form: str = LEAN) -> HeadPasses:
    return HeadPasses(Head.of(model), precision=precision, form=form)


def make_gradient(passes: HeadPasses, clips_per_step: int) -> AccumulatedGradient:
    return AccumulatedGradient(
        passes, clips_per_step=clips_per_step, class_weights=torch.tensor([1.0, 2.0, 3.0], device=DEVICE)
    )


def errors_of_gradients(
    model: VJEPA2ForVideoClassification, reference: Head, window: list[LabelledFeatures]
) -> dict[str, tuple[Tensor, Tensor]]:
    """The norms of each parameter's error and of what it should be, by transformers' own modules in fp32."""
    reference.zero_grad()
    labels = torch.tensor([clip.label for clip in window], device=DEVICE)
    with matmul_precision("fp32"):
        logits = reference(torch.stack([clip.features.float() for clip in window]))
        F.cross_entropy(logits, labels, weight=torch.tensor([1.0, 2.0, 3.0], device=DEVICE)).backward()
    expected = {name: parameter.grad for name, parameter in reference.named_parameters()}
    return {
        name: ((parameter.grad - expected[name]).norm(), expected[name].norm())
        for name, parameter in Head.of(model).named_parameters()
        if "k_proj.bias" not in name  # which softmax forgets
    }


def check_gradients(
    model: VJEPA2ForVideoClassification, reference: Head, window: list[LabelledFeatures], tolerance: float
) -> None:
    for name, (error, norm) in errors_of_gradients(model, reference, window).items():
        assert error < tolerance * norm, (len(window), name)


@pytest.mark.parametrize("form", [LEAN, EAGER])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("tf32", 1e-2), ("bf16", 5e-2)])
def test_full_and_partial_windows_have_transformers_gradient(
    large: VJEPA2ForVideoClassification, reference: Head, precision: str, tolerance: float, form: str
) -> None:
    with matmul_precision(precision):
        gradient = make_gradient(make_passes(large, precision, form), clips_per_step=4)
        for count in (4, 3, 4, 1):
            window = make_window(count, torch.bfloat16 if precision == "bf16" else torch.float32)
            predictions = gradient.compute(window)
            assert predictions.logits.shape == (count, 3)
            check_gradients(large, reference, window, tolerance)


@pytest.mark.parametrize("most", [16, 4])  # clips: all passes are kept, or two of them
def test_trainings_with_windows_of_several_sizes_share_the_passes_of_a_head(
    large: VJEPA2ForVideoClassification, reference: Head, most: int
) -> None:
    with matmul_precision("bf16"):
        passes = make_passes(large, "bf16", EAGER)
        passes.most = most
        for size in (4, 3, 2, 4):
            window = make_window(size, torch.bfloat16)
            make_gradient(passes, clips_per_step=size).compute(window)
            check_gradients(large, reference, window, tolerance=5e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_whatever_memory_is_left_a_training_ends_or_says_that_it_is_too_small(
    large: VJEPA2ForVideoClassification, precision: str
) -> None:
    recipe = Recipe(precision=precision, epochs=1, gradient_accumulation_steps=4)  # type: ignore[arg-type]
    clips: Any = Window(make_window(20, torch.float32))

    def ends_with(left: float) -> bool:
        head = copy.deepcopy(Head.of(large))
        with gpu_memory_left(left), suppress(UserError):
            passes = HeadPasses(head, precision=precision, form=LEAN)
            fit(passes, train=clips, val=clips, recipe=recipe, on_epoch=lambda _: None)
            return True
        return False

    # What is compiled goes the same ways, but each size of batch would be compiled.
    with matmul_precision(precision), torch.compiler.set_stance("force_eager"):
        whole, enough = gpu_memory_needed(lambda: ends_with(60))
        ended = [ends_with(share * enough) for share in (0.05, 0.2, 0.35, 0.6, 1.1)]
    assert whole
    assert not ended[0]  # too little for Adam's moments
    assert ended[-1]


def test_in_bf16_gradients_err_no_more_than_those_of_transformers(
    large: VJEPA2ForVideoClassification, reference: Head
) -> None:
    windows = [make_window(4 + number, torch.bfloat16)[-4:] for number in range(5)]

    def error(form: str) -> float:
        """Of all parameters as one, mean over the windows, as a share."""
        shares = []
        gradient = make_gradient(make_passes(large, "bf16", form), clips_per_step=4)
        for window in windows:
            gradient.compute(window)
            errors, norms = zip(*errors_of_gradients(large, reference, window).values(), strict=True)
            shares.append(torch.stack(errors).norm() / torch.stack(norms).norm())
        return float(torch.stack(shares).mean())

    assert max(error(LEAN), error(EAGER)) < error(TRANSFORMERS)


@pytest.mark.parametrize("form", [LEAN, EAGER])
@pytest.mark.parametrize("clips_per_step", [1, 4])
def test_gradients_are_the_same_every_time(large: VJEPA2ForVideoClassification, clips_per_step: int, form: str) -> None:
    window = make_window(clips_per_step, torch.bfloat16)
    gradient = make_gradient(make_passes(large, "bf16", form), clips_per_step)
    gradient.compute(window)
    trained = [parameter for parameter in Head.of(large).parameters() if parameter.grad is not None]
    first = [parameter.grad.clone() for parameter in trained]
    for _ in range(100):
        gradient.compute(window)
        assert all(torch.equal(parameter.grad, expected) for parameter, expected in zip(trained, first, strict=True))


def test_large_windows_add_up(large: VJEPA2ForVideoClassification, reference: Head) -> None:
    window = make_window(37, torch.bfloat16)
    gradient = make_gradient(make_passes(large, "bf16"), clips_per_step=40)
    gradient.compute(window)  # a second time, over what the first one left
    gradient.compute(window)
    check_gradients(large, reference, window, tolerance=0.05)


def test_when_memory_runs_out_fewer_clips_go_at_once(
    large: VJEPA2ForVideoClassification, reference: Head, capsys: pytest.CaptureFixture[str]
) -> None:
    window = make_window(8, torch.float32)
    large.zero_grad()
    reference.zero_grad()
    with matmul_precision("fp32"), gpu_memory_left(8):  # GiB, less than 8 clips need in fp32
        passes = make_passes(large, "fp32")
        make_gradient(passes, clips_per_step=8).compute(window)
    assert passes.most < 8
    assert f"Memory ran out: {passes.most} clips go through the head" in capsys.readouterr().err
    check_gradients(large, reference, window, tolerance=1e-3)
