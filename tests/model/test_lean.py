import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from vjepa_mlflow.model import Backbone, Head, head_forms, lean, load_classifier, locate, training_head
from vjepa_mlflow.model.attention import Attention, fused_attention, plain_attention, scaled_attention
from vjepa_mlflow.model.compiled import Compiled
from vjepa_mlflow.model.forward import TOLERANCE, compare_encoders
from vjepa_mlflow.model.lean import (
    LeanEncoder,
    LeanHead,
    knows,
    split_linear,
)


def make_model(**changes: object) -> VJEPA2ForVideoClassification:
    """Weights far larger than a new model's, so that attention is not nearly uniform and mistakes in it show."""
    torch.manual_seed(0)
    sizes = {
        "crop_size": 48,
        "patch_size": 16,
        "frames_per_clip": 8,
        "hidden_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "num_pooler_layers": 2,
        "pred_hidden_size": 24,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
        "num_labels": 5,
        "initializer_range": 0.15,
        **changes,
    }
    return VJEPA2ForVideoClassification(VJEPA2Config(**sizes)).eval()


def make_encoder(
    model: VJEPA2ForVideoClassification, dtype: torch.dtype, attend: Attention, **options: Any
) -> LeanEncoder:
    return LeanEncoder(model.state_dict(), model.config, dtype=dtype, attend=attend, **options)


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize(
    ("attend", "multiply"), [(plain_attention, F.linear), (fused_attention, F.linear), (fused_attention, split_linear)]
)
@pytest.mark.parametrize(
    "changes", [{}, {"num_attention_heads": 4}, {"hidden_size": 96, "num_attention_heads": 4}, {"tubelet_size": 4}]
)
def test_the_lean_encoder_is_transformers_encoder(
    changes: dict[str, object],
    attend: Attention,
    multiply: lean.Multiply,
    is_compiled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lean, "_compiled", lambda function: function)  # what is compiled, as it is written
    model = make_model(**changes)
    encoder = make_encoder(model, torch.float32, attend, multiply=multiply, is_compiled=is_compiled)
    assert compare_encoders(model, encoder) < 1e-5


@pytest.mark.parametrize("is_compiled", [True, False])
def test_in_bf16_it_errs_less_than_transformers(is_compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "_compiled", lambda function: function)
    model = make_model()
    ours = compare_encoders(model, make_encoder(model, torch.bfloat16, plain_attention, is_compiled=is_compiled))
    transformers = compare_encoders(model, Backbone.of(model, precision="bf16"))
    assert 1e-4 < ours < transformers < TOLERANCE["bf16"]


def test_a_wrong_encoder_is_found_out() -> None:
    model = make_model()
    wrong = make_encoder(model, torch.float32, plain_attention)
    wrong._rotary = lean.Rotary(wrong._rotary.cos, -wrong._rotary.sin)
    assert compare_encoders(model, wrong) > max(TOLERANCE.values())


def gradients(head: Head, logits: Tensor) -> dict[str, Tensor]:
    head.zero_grad()
    F.cross_entropy(logits, torch.tensor([0, 3, 1])).backward()
    return {name: one.grad.clone() for name, one in head.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("attend", [plain_attention, scaled_attention])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_the_lean_head_is_transformers_head_and_so_are_its_gradients(
    dtype: torch.dtype, tolerance: float, attend: Attention
) -> None:
    model = make_model()
    head = Head.of(model)
    features = torch.randn(3, 36, 64)
    expected = head(features)
    logits = LeanHead(head, dtype=dtype, attend=attend)(features)
    assert (logits - expected).norm() < tolerance * expected.norm()
    wanted, found = gradients(head, expected), gradients(head, logits)
    blind = "pooler.cross_attention_layer.cross_attn.k_proj.bias"  # softmax forgets it: its gradient is zero
    assert set(wanted) - set(found) == {blind}
    assert wanted[blind].norm() < 1e-5 * wanted["classifier.weight"].norm()
    for name, gradient in found.items():
        if "k_proj.bias" not in name:
            assert (gradient - wanted[name]).norm() < tolerance * wanted[name].norm(), name


def test_features_that_are_kept_are_not_touched() -> None:
    model = make_model()
    features = torch.randn(2, 36, 64)
    before = features.clone()
    LeanHead(Head.of(model), dtype=torch.float32, attend=plain_attention)(features).sum().backward()
    assert torch.equal(features, before)
    assert not features.requires_grad
    assert features.grad is None


@pytest.mark.parametrize(
    "changes", [{"hidden_act": "relu"}, {"qkv_bias": False}, {"attention_dropout": 0.1}, {"hidden_size": 65}]
)
def test_configurations_that_compute_something_else_are_not_known(changes: dict[str, object]) -> None:
    config = copy.copy(make_model().config)
    assert knows(config)
    for name, value in changes.items():
        setattr(config, name, value)
    assert not knows(config)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_on_the_cpu_transformers_computes(precision: str) -> None:
    model = load_classifier(locate("tiny"), ["a", "b"], seed=0)
    assert Backbone.of(model, precision=precision).form == "transformers"
    head = Head.of(model)
    assert head_forms(head) == ["transformers"]
    assert not isinstance(training_head(head, precision=precision, form="transformers"), LeanHead)


def test_where_nothing_compiles_functions_are_called_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    function = Compiled(lambda hidden, _: hidden + 1)
    for _ in range(2):
        assert function(torch.ones(2), "sizes").tolist() == [2, 2]
    assert capsys.readouterr().err.splitlines() == ["Not compiled, and so slower: no C compiler"]


def broken(*_: object) -> Tensor:
    raise RuntimeError("no C compiler\nmore about it")


def test_a_split_product_is_an_fp32_product() -> None:
    torch.manual_seed(0)
    inputs, weight, bias = torch.randn(64, 1024), torch.randn(32, 1024), torch.randn(32)
    exact = F.linear(inputs.double(), weight.double(), bias.double())
    errors = [(multiply(inputs, weight, bias) - exact).norm() for multiply in (split_linear, F.linear)]
    assert errors[0] < 1.2 * errors[1]
    rough = F.linear(lean._nearest_tf32(inputs), lean._nearest_tf32(weight), bias)  # one TF32 product
    assert (rough - exact).norm() > 100 * errors[0]


def test_numbers_are_rounded_to_what_tf32_holds() -> None:
    exact = torch.tensor([1 + 2**-11, -(1 + 2**-11), 1 + 2**-12, 3e38, 0.0, -0.0, math.inf, math.nan])
    nearest = lean._nearest_tf32(exact)
    assert nearest[:3].tolist() == [1 + 2**-10, -(1 + 2**-10), 1]
    assert nearest[3].item() == pytest.approx(3e38, rel=2**-11)
    assert nearest[4:7].tolist() == [0, 0, math.inf]
    assert nearest[7].isnan()
    assert (nearest.view(torch.int32)[:7] & 0x1FFF == 0).all()
