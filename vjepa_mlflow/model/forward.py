"""Which form of the frozen encoder, and of the head in training, computes here."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from vjepa_mlflow.logs import get_logger
from vjepa_mlflow.model.attention import Attention, fused_attention, plain_attention, scaled_attention, steady_attention
from vjepa_mlflow.model.captured import Captured
from vjepa_mlflow.model.device import autocast, matmul_precision, training_numerics
from vjepa_mlflow.model.head import Architecture, Head
from vjepa_mlflow.model.lean import (
    LeanEncoder,
    LeanHead,
    Multiply,
    knows,
    split_linear,
)

logger = get_logger(__name__)

if TYPE_CHECKING:
    from transformers import VJEPA2ForVideoClassification

LEAN, EAGER, TRANSFORMERS = "lean", "eager", "transformers"
"""The forms: the lean one, compiled; the lean one as it is, for runs too short to win the time of compiling back; and
transformers' own. Their values differ in the last bits."""

TOLERANCE = {"fp32": 1e-4, "tf32": 0.01, "bf16": 0.05}
"""Largest difference between the lean encoder and transformers' in fp32, as a share of the features' norm. The ViT-L
with random weights has 0.007 in bf16, and transformers' own bf16 has 0.013."""

_FASTEST: dict[str, tuple[Attention, Multiply]] = {
    "fp32": (fused_attention, split_linear),
    "tf32": (plain_attention, F.linear),
    "bf16": (fused_attention, F.linear),
}
"""How the lean encoder computes in each format. A clip of the ViT-L takes 25 ms in fp32 on an H200, where strict fp32
products take 39 and transformers 41; its features are 9e-6 off those of fp64, and transformers' 2e-6."""

_FAST_TF32 = {(8, 0), (9, 0), (10, 0)}
"""Compute capabilities (A100, H100 and H200, B200) with TF32 products so much faster than fp32 ones that three of them
are faster than one, by their makers' figures; measured on an H200. Elsewhere, as on GeForce cards, they are not."""


class Backbone:
    """The frozen encoder: pixels to features.

    Args:
        encode: pixels of shape (clips, frames, 3, height, width) to features of shape (clips, tokens, hidden size).
        architecture: of its model.
        device: where it computes.
        form: of it.

    Attributes:
        form: as above.
    """

    def __init__(
        self, encode: Callable[[Tensor], Tensor], architecture: Architecture, device: torch.device, *, form: str
    ):
        self._encode = encode
        self._architecture, self._device = architecture, device
        self._captured: dict[torch.Size, Captured] = {}
        self.form = form

    @classmethod
    def of(cls, model: "VJEPA2ForVideoClassification", *, precision: str, form: str | None = None) -> "Backbone":
        """That of a model on its device.

        Args:
            model: the one.
            precision: the recipe's.
            form: see `encoder_forms`; None for the fastest one that agrees with transformers'.
        """
        form = form or fastest_form(model, precision)
        if form == TRANSFORMERS:
            return cls(transformers_encoder(model, precision), model.config, model.device, form=form)
        return cls.of_weights(model.state_dict(), model.config, precision=precision, form=form)

    @classmethod
    def of_weights(
        cls, weights: Mapping[str, Tensor], architecture: Architecture, *, precision: str, form: str
    ) -> "Backbone":
        """That of a model's weights on their device, in a lean form."""
        encode = lean_encoder(weights, architecture, precision, form)
        return cls(encode, architecture, next(iter(weights.values())).device, form=form)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels of shape (clips, frames, 3, height, width) to features of shape (clips, tokens, hidden size)."""
        return self._encode(pixels) if self.form == TRANSFORMERS else self._capture(pixels)(pixels).clone()

    @torch.no_grad()
    def prepare(self, *, clips: int) -> None:
        """Does beforehand what the first batch of so many clips would have to wait for."""
        if self.form != TRANSFORMERS and not self._captured:
            self._capture(_random_pixels(self._architecture, self._device, clips))

    def _capture(self, pixels: Tensor) -> Captured:
        if pixels.shape not in self._captured:
            self._captured[pixels.shape] = Captured(self._encode, pixels)
        return self._captured[pixels.shape]


def transformers_encoder(model: "VJEPA2ForVideoClassification", precision: str) -> Callable[[Tensor], Tensor]:
    """A model's own encoder, which computes in the recipe's precision."""

    def encode(pixels: Tensor) -> Tensor:
        with autocast(pixels.device, precision):
            hidden = model.vjepa2(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state
        return hidden.to(features_dtype(precision))

    return encode


def lean_encoder(weights: Mapping[str, Tensor], architecture: Architecture, precision: str, form: str) -> LeanEncoder:
    """The encoder of a model's weights in one of the lean forms."""
    attend, multiply = _FASTEST[precision]
    return LeanEncoder(
        weights,
        architecture,
        dtype=features_dtype(precision),
        attend=attend,
        multiply=multiply,
        is_compiled=form == LEAN,
    )


def features_dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def fastest_form(model: "VJEPA2ForVideoClassification", precision: str) -> str:
    """The form that is fastest in the long run, if it agrees with transformers' on this checkpoint."""
    form = encoder_forms(model.config, model.device, precision)[0]
    return TRANSFORMERS if form != TRANSFORMERS and not agrees(model, precision) else form


def encoder_forms(architecture: Architecture, device: torch.device, precision: str) -> list[str]:
    """The forms of an encoder that a device has a use for, the one that is fastest in the long run first.

    On a GPU they are the lean ones, in `fp32` if the GPU's TF32 products are fast, where they know the configuration;
    otherwise it is transformers'.
    """
    if not _gains(device, precision):
        return [TRANSFORMERS]
    if not knows(architecture):
        logger.warning("The fast encoder does not know this checkpoint's configuration: transformers' is used")
        return [TRANSFORMERS]
    return [LEAN, EAGER]


def form_for(forms: Sequence[str], clips: int, *, compiling_pays: int) -> str:
    """The form that so many clips take least time in.

    Args:
        forms: there are, the one that is fastest in the long run first.
        clips: that go through it.
        compiling_pays: how many it takes to win the time of compiling back.
    """
    return EAGER if EAGER in forms and clips < compiling_pays else forms[0]


def agrees(model: "VJEPA2ForVideoClassification", precision: str) -> bool:
    """Whether the lean encoder's features of a clip are transformers', but for rounding; told where they are not."""
    encode = lean_encoder(model.state_dict(), model.config, precision, EAGER)
    difference, tolerance = compare_encoders(model, encode), TOLERANCE[precision]
    if difference <= tolerance:
        return True
    logger.warning(
        f"The fast encoder's features are {difference:.3%} off transformers' on this checkpoint (expected at most "
        f"{tolerance:.3%}): transformers' is used"
    )
    return False


@torch.no_grad()
def compare_encoders(model: "VJEPA2ForVideoClassification", encode: Callable[[Tensor], Tensor]) -> float:
    """How far an encoder's features of one random clip are from those of transformers in fp32.

    Returns:
        The norm of the difference as a share of the features' norm.
    """
    pixels = _random_pixels(model.config, model.device, 1)
    features = encode(pixels).float()
    with matmul_precision("fp32"):
        expected = model.vjepa2(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state
    return ((features - expected).norm() / expected.norm()).item()


def _random_pixels(architecture: Architecture, device: torch.device, clips: int) -> Tensor:
    side = architecture.crop_size
    shape = (clips, architecture.frames_per_clip, architecture.in_chans, side, side)
    return torch.randn(shape, device=device, generator=torch.Generator(device).manual_seed(0))


def _gains(device: torch.device, precision: str) -> bool:
    """Whether the lean encoder is faster than transformers' here."""
    if device.type == "cpu":
        return False
    return precision != "fp32" or torch.cuda.get_device_capability(device) in _FAST_TF32


def head_forms(head: Head) -> list[str]:
    """The forms of a head in training that its device has a use for, the one that is fastest in the long run first."""
    is_lean = next(head.parameters()).is_cuda and knows(head.architecture)
    return [LEAN, EAGER] if is_lean else [TRANSFORMERS]


def training_head(head: Head, *, precision: str, form: str) -> Callable[[Tensor], Tensor]:
    """The head's forward pass for training, from features to fp32 logits; its gradients are the same every time.

    Args:
        head: on its device.
        precision: the recipe's.
        form: one of `head_forms`.
    """
    if form == TRANSFORMERS:
        return _WholeHead(head, precision)
    is_compiled = form == LEAN
    attend = _steady_attention(head, precision, is_compiled=is_compiled)
    return LeanHead(head, dtype=features_dtype(precision), attend=attend, is_compiled=is_compiled)


def _steady_attention(head: Head, precision: str, *, is_compiled: bool) -> Attention:
    """The fastest attention whose gradients are the same every time."""
    head_size = head.architecture.hidden_size // head.architecture.num_attention_heads
    has_kernel = precision == "bf16" and head_size in (16, 32, 64, 128)
    if is_compiled and has_kernel:
        from vjepa_mlflow.model.compiled import flexible_attention

        return flexible_attention
    if is_compiled:
        return plain_attention
    return steady_attention if has_kernel and _has_flash_attention(head.classifier.weight.device) else scaled_attention


def _has_flash_attention(device: torch.device) -> bool:
    is_new = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return is_new and torch.backends.cuda.is_flash_attention_available()


class _WholeHead:
    """The head as transformers computes it."""

    def __init__(self, head: Head, precision: str):
        self._head = head
        self._precision = precision

    def __call__(self, features: Tensor) -> Tensor:
        with training_numerics(features.device, self._precision):
            return self._head(features.float()).float()
