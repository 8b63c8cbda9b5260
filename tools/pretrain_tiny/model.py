"""The tiny checkpoint's architecture: a V-JEPA 2 of 1.5 million parameters, two bytes each."""

import torch
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from vjepa_mlflow.model import Preprocessing, Sides

CROP = 64

PREPROCESSING = Preprocessing(crop_size=Sides(CROP, CROP))


def make_model(labels: list[str], *, seed: int) -> VJEPA2ForVideoClassification:
    """A model with random weights.

    Its pooler is the cross-attention alone: three megabytes are better spent on a wider backbone. The predictor, which
    classification does not use, is as small as it can be.
    """
    config = VJEPA2Config(
        crop_size=CROP,
        patch_size=16,
        frames_per_clip=16,
        hidden_size=144,
        num_attention_heads=4,
        num_hidden_layers=4,
        num_pooler_layers=0,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        pred_num_mask_tokens=1,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        attn_implementation="eager",  # whose gradients, unlike the fused kernels', are the same every time
    )
    torch.manual_seed(seed)
    return VJEPA2ForVideoClassification(config)
