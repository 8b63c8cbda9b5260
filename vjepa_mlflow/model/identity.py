"""Names for what features depend on in a model, made from its content and not from where it came from."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vjepa_mlflow.model.configuration import Preprocessing
from vjepa_mlflow.runtime.iteration import map_ahead

if TYPE_CHECKING:
    from transformers import VJEPA2ForVideoClassification

_BLOCK = 1 << 22
"""Bytes brought from a GPU at once: page-locked memory takes long to allocate."""

_CONFIGURATION = (
    "crop_size",
    "frames_per_clip",
    "hidden_act",
    "hidden_size",
    "in_chans",
    "layer_norm_eps",
    "mlp_ratio",
    "num_attention_heads",
    "num_hidden_layers",
    "patch_size",
    "qkv_bias",
    "tubelet_size",
)


def backbone_digest(model: "VJEPA2ForVideoClassification") -> str:
    """SHA-256 of the encoder's weights and of what its configuration says about it, hexadecimal.

    Models that were trained from the same checkpoint have the same one: the head is not part of it.
    """
    configuration = {name: getattr(model.config, name) for name in _CONFIGURATION}
    return weights_digest(model.vjepa2.encoder.state_dict(), json.dumps(configuration, sort_keys=True))


def weights_digest(weights: Mapping[str, Tensor], about: str = "") -> str:
    """SHA-256 of tensors with their names, and of what is said about them, hexadecimal."""
    parts = [about, *map_ahead(_weight_digest, sorted(weights.items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _weight_digest(named: tuple[str, Tensor]) -> str:
    name, weight = named
    digest = hashlib.sha256(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
    for block in weight.contiguous().flatten().view(torch.uint8).split(_BLOCK):
        digest.update(_on_the_host(block).numpy().data)
    return digest.hexdigest()


def _on_the_host(block: Tensor) -> Tensor:
    """By way of page-locked memory, to which a GPU copies faster."""
    return torch.empty_like(block, device="cpu", pin_memory=True).copy_(block) if block.is_cuda else block


def preprocessing_digest(preprocessing: Preprocessing) -> str:
    """SHA-256 of the preprocessing's values, hexadecimal."""
    return hashlib.sha256(json.dumps(preprocessing.arguments(), sort_keys=True).encode()).hexdigest()
