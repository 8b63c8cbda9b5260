import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from vjepa_mlflow.model import Head

SIZES = {
    "crop_size": 32,
    "frames_per_clip": 4,
    "hidden_size": 48,
    "num_attention_heads": 3,
    "num_hidden_layers": 1,
    "pred_hidden_size": 24,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
    "num_labels": 5,
}


def results(forward: nn.Module, features: Tensor, *, precision: torch.dtype) -> list[Tensor]:
    """The logits, and the gradients of all parameters."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        logits = forward(features).float()
    logits.square().sum().backward()
    return [logits, *(parameter.grad for parameter in forward.parameters() if parameter.grad is not None)]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "changes",
    [{}, {"num_pooler_layers": 0}, {"hidden_act": "gelu_new"}, {"layer_norm_eps": 1e-2}, {"attention_dropout": 0.3}],
)
def test_it_computes_what_transformers_does_to_the_bit(changes: dict[str, object], precision: torch.dtype) -> None:
    torch.manual_seed(0)
    model = VJEPA2ForVideoClassification(VJEPA2Config(**SIZES, **changes)).train()
    ours, theirs = copy.deepcopy(Head.of(model)), nn.Sequential(model.pooler, model.classifier)
    features = torch.randn(3, 8, 48)
    torch.manual_seed(1)  # of what is dropped
    expected = results(theirs, features, precision=precision)
    torch.manual_seed(1)
    found = results(ours.train(), features, precision=precision)
    assert len(found) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_it_has_the_names_of_its_model_and_shares_its_weights() -> None:
    model = VJEPA2ForVideoClassification(VJEPA2Config(**SIZES))
    head = Head.of(model)
    assert list(head.state_dict()) == [name for name in model.state_dict() if not name.startswith("vjepa2.")]
    with torch.no_grad():
        head.classifier.bias += 1
    assert model.classifier.bias.tolist() == [1] * 5
