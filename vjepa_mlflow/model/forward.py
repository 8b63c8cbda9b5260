"""Which form of the frozen encoder, and of the head in training, computes here."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from vjepa_mlflow.errors import remark
from vjepa_mlflow.model.captured import Captured
from vjepa_mlflow.model.classifier import Head
from vjepa_mlflow.model.device import autocast, matmul_precision, training_numerics
from vjepa_mlflow.model.lean import (
    Attention,
    LeanEncoder,
    LeanHead,
    Multiply,
    flexible_attention,
    fused_attention,
    knows,
    plain_attention,
    split_linear,
)

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

    On a GPU it is the lean one, if that agrees with transformers' on this checkpoint, and in `fp32` if the GPU's TF32
    products are fast; otherwise it is transformers'.

    Attributes:
        dtype: of the features: bfloat16 for `bf16`, otherwise float32.
        form: `lean` or `transformers`.
    """

    def __init__(self, model: VJEPA2ForVideoClassification, *, precision: str):
        self._model = model
        self._precision = precision
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._lean = self._make_lean() if _gains(model.device, precision) else None
        self._captured: dict[torch.Size, Captured] = {}
        self.form = "transformers" if self._lean is None else "lean"

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels of shape (clips, frames, 3, height, width) to features of shape (clips, tokens, hidden size)."""
        if self._lean is None:
            return self._transformers(pixels)
        return self._capture(self._lean, pixels)(pixels).clone()

    @torch.no_grad()
    def prepare(self, *, clips: int) -> None:
        """Does beforehand what the first batch of so many clips would have to wait for."""
        if self._lean is not None and not self._captured:
            self._capture(self._lean, _random_pixels(self._model, clips))

    def _capture(self, lean: LeanEncoder, pixels: Tensor) -> Captured:
        if pixels.shape not in self._captured:
            self._captured[pixels.shape] = Captured(lean, pixels)
        return self._captured[pixels.shape]

    def _transformers(self, pixels: Tensor) -> Tensor:
        with autocast(pixels.device, self._precision):
            hidden = self._model.vjepa2(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state
        return hidden.to(self.dtype)

    def _make_lean(self) -> LeanEncoder | None:
        if not knows(self._model.config):
            remark("The fast encoder does not know this checkpoint's configuration: transformers' is used")
            return None
        attend, multiply = _FASTEST[self._precision]
        lean = LeanEncoder(self._model, dtype=self.dtype, attend=attend, multiply=multiply)
        difference, tolerance = compare_encoders(self._model, lean), TOLERANCE[self._precision]
        if not difference <= tolerance:
            remark(
                f"The fast encoder's features are {difference:.3%} off transformers' on this checkpoint (expected at "
                f"most {tolerance:.3%}): transformers' is used"
            )
            return None
        lean.compile()
        return lean


@torch.no_grad()
def compare_encoders(model: VJEPA2ForVideoClassification, encode: Callable[[Tensor], Tensor]) -> float:
    """How far an encoder's features of one random clip are from those of transformers in fp32.

    Returns:
        The norm of the difference as a share of the features' norm.
    """
    pixels = _random_pixels(model, 1)
    found = encode(pixels).float()
    with matmul_precision("fp32"):
        expected = model.vjepa2(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state
    return ((found - expected).norm() / expected.norm()).item()


def _random_pixels(model: VJEPA2ForVideoClassification, clips: int) -> Tensor:
    config = model.config
    shape = (clips, config.frames_per_clip, config.in_chans, config.crop_size, config.crop_size)
    return torch.randn(shape, device=model.device, generator=torch.Generator(model.device).manual_seed(0))


def _gains(device: torch.device, precision: str) -> bool:
    """Whether the lean encoder is faster than transformers' here."""
    if device.type == "cpu":
        return False
    return precision != "fp32" or torch.cuda.get_device_capability(device) in _FAST_TF32


def training_head(head: Head, config: VJEPA2Config, *, precision: str) -> Callable[[Tensor], Tensor]:
    """The head's forward pass for training, from features to fp32 logits; its gradients are the same every time.

    On a GPU it is the lean one; on the CPU, and where that does not know the configuration, transformers'.
    """
    if next(head.parameters()).device.type == "cpu" or not knows(config):
        return _TransformersHead(head, precision)
    attend, dtype = plain_attention, torch.float32
    if precision == "bf16":
        attend, dtype = (flexible_attention if _flexible(config) else plain_attention), torch.bfloat16
    lean = LeanHead(head, config, dtype=dtype, attend=attend)
    lean.compile()
    return lean


def _flexible(config: VJEPA2Config) -> bool:
    """Whether FlexAttention has kernels for heads of this size."""
    return config.hidden_size // config.num_attention_heads in (16, 32, 64, 128)


class _TransformersHead:
    def __init__(self, head: Head, precision: str):
        self._head = head
        self._precision = precision

    def __call__(self, features: Tensor) -> Tensor:
        with training_numerics(features.device, self._precision):
            return self._head(features.float()).float()
