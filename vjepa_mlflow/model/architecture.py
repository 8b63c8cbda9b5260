"""The weights that a V-JEPA 2 classifier has, by what its configuration says, without PyTorch and transformers."""

from collections.abc import Iterator, Mapping
from typing import Any

from vjepa_mlflow.model.configuration import Configuration

BACKBONE = "vjepa2."
"""How the names of a classifier's weights begin that are not its head's."""

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]


def classifier_shapes(configuration: Configuration) -> dict[str, Shape]:
    """The shapes of all weights by the names that transformers has for them."""
    return {**backbone_shapes(configuration), **head_shapes(configuration)}


def backbone_shapes(configuration: Configuration) -> dict[str, Shape]:
    """The shapes of the encoder's and the predictor's weights."""
    parts = (*_encoder(configuration.fields), *_predictor(configuration.fields))
    return {f"{BACKBONE}{name}": shape for name, shape in parts}


def head_shapes(configuration: Configuration) -> dict[str, Shape]:
    """The shapes of the pooler's and the classifier's weights."""
    classifier = _linear("classifier", configuration.fields["hidden_size"], len(configuration.labels))
    return {**dict(_pooler(configuration.fields)), **dict(classifier)}


def _encoder(fields: Mapping[str, Any]) -> Shapes:
    size, patch = fields["hidden_size"], fields["patch_size"]
    embedding = "encoder.embeddings.patch_embeddings.proj"
    yield f"{embedding}.weight", (size, fields["in_chans"], fields["tubelet_size"], patch, patch)
    yield f"{embedding}.bias", (size,)
    for index in range(fields["num_hidden_layers"]):
        yield from _block(f"encoder.layer.{index}", size, fields["mlp_ratio"], qkv_bias=fields["qkv_bias"])
    yield from _norm("encoder.layernorm", size)


def _predictor(fields: Mapping[str, Any]) -> Shapes:
    size, hidden_size = fields["pred_hidden_size"], fields["hidden_size"]
    yield from _linear("predictor.embeddings.predictor_embeddings", hidden_size, size)
    yield "predictor.embeddings.mask_tokens", (fields["pred_num_mask_tokens"], 1, 1, size)
    for index in range(fields["pred_num_hidden_layers"]):
        yield from _block(f"predictor.layer.{index}", size, fields["pred_mlp_ratio"], qkv_bias=fields["qkv_bias"])
    yield from _norm("predictor.layernorm", size)
    yield from _linear("predictor.proj", size, hidden_size)


def _block(name: str, size: int, mlp_ratio: float, *, qkv_bias: bool) -> Shapes:
    yield from _norm(f"{name}.norm1", size)
    for part in ("query", "key", "value"):
        yield from _linear(f"{name}.attention.{part}", size, size, bias=qkv_bias)
    yield from _linear(f"{name}.attention.proj", size, size)
    yield from _norm(f"{name}.norm2", size)
    yield from _mlp(f"{name}.mlp", size, mlp_ratio)


def _pooler(fields: Mapping[str, Any]) -> Shapes:
    size = fields["hidden_size"]
    yield "pooler.query_tokens", (1, 1, size)
    yield from _pooler_layer("pooler.cross_attention_layer", "cross_attn", ("k_proj", "v_proj", "q_proj"), size)
    for index in range(fields["num_pooler_layers"]):
        parts = ("k_proj", "v_proj", "q_proj", "out_proj")
        yield from _pooler_layer(f"pooler.self_attention_layers.{index}", "self_attn", parts, size)


def _pooler_layer(name: str, attention: str, parts: tuple[str, ...], size: int) -> Shapes:
    yield from _norm(f"{name}.layer_norm1", size)
    for part in parts:
        yield from _linear(f"{name}.{attention}.{part}", size, size)
    yield from _norm(f"{name}.layer_norm2", size)
    yield from _mlp(f"{name}.mlp", size, 4.0)  # whatever the encoder's ratio is


def _mlp(name: str, size: int, ratio: float) -> Shapes:
    yield from _linear(f"{name}.fc1", size, int(size * ratio))
    yield from _linear(f"{name}.fc2", int(size * ratio), size)


def _linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    if bias:
        yield f"{name}.bias", (outputs,)


def _norm(name: str, size: int) -> Shapes:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)
