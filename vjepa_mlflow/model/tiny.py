"""The tiny checkpoint, for machines without the Hub or a GPU.

Its weights are random for now, from a fixed seed, and its accuracy stays near chance; a pretrained one will take its
place as a folder of the package.
"""

from pathlib import Path

import torch
from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from vjepa_mlflow.cache import build_once
from vjepa_mlflow.model.quiet import quiet_transformers

VERSION = 1
"""Changes with anything below, so that no cache keeps an older checkpoint under the same name."""


def folder() -> Path:
    """The tiny checkpoint as a `from_pretrained` folder, built on first use into the cache."""
    return build_once(f"tiny-{VERSION}", _build)


def _build(root: Path) -> None:
    config = VJEPA2Config(
        crop_size=64,
        patch_size=16,
        frames_per_clip=16,
        hidden_size=96,
        num_attention_heads=4,
        num_hidden_layers=4,
        num_pooler_layers=1,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        pred_num_mask_tokens=1,
    )
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        VJEPA2ForVideoClassification(config).save_pretrained(root)
    VJEPA2VideoProcessor(
        crop_size={"height": 64, "width": 64}, size={"shortest_edge": 64 * 256 // 224}
    ).save_pretrained(root)
