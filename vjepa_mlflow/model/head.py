"""The head of a V-JEPA 2 classifier, computed as transformers does, operation by operation, without importing it.

Where all features are there, training needs nothing else of a model, and importing transformers takes longer than it.
"""

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vjepa_mlflow.internals import transformers_private

if TYPE_CHECKING:
    from transformers import VJEPA2ForVideoClassification

Architecture = Any
"""What describes a model's layers: transformers' `VJEPA2Config`, or `Configuration.architecture`."""


CLASSIFIER = frozenset({"classifier.weight", "classifier.bias"})
"""The names of a classifier's weights in its head."""


class ParameterCounts(NamedTuple):
    total: int
    trainable: int


class Head(nn.Module):
    """The part of a classifier that is trained: its attentive pooler and linear classifier.

    Its state dict has the names that it has in `VJEPA2ForVideoClassification`, and its values are those of that model's
    head to the last bit, on the CPU.

    Args:
        architecture: of the model.
        num_labels: classes.

    Attributes:
        architecture: as above.
    """

    def __init__(self, architecture: Architecture, num_labels: int):
        super().__init__()
        self.architecture = architecture
        self.pooler = AttentivePooler(architecture)
        self.classifier = nn.Linear(architecture.hidden_size, num_labels)

    @classmethod
    def of(cls, model: "VJEPA2ForVideoClassification") -> "Head":
        """That of transformers' `VJEPA2ForVideoClassification`, with which it shares its weights."""
        with torch.device("meta"):
            head = cls(model.config, model.classifier.out_features)
        names = head.state_dict().keys()
        weights = {name: weight for name, weight in model.state_dict(keep_vars=True).items() if name in names}
        head.load_state_dict(weights, assign=True)
        return head

    def forward(self, features: Tensor) -> Tensor:
        """Features of shape (clips, tokens, hidden size) to logits of shape (clips, classes)."""
        return self.classifier(self.pooler(features))


class AttentivePooler(nn.Module):
    """Self-attention over all tokens, and then one query that attends to them.

    Hidden states of shape (clips, tokens, hidden size) become one of shape (clips, hidden size).
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, 1, architecture.hidden_size))
        self.cross_attention_layer = _CrossAttentionLayer(architecture)
        self.self_attention_layers = nn.ModuleList(
            [_SelfAttentionLayer(architecture) for _ in range(architecture.num_pooler_layers)]
        )

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.self_attention_layers:
            hidden = layer(hidden)
        queries = self.query_tokens.repeat(len(hidden), 1, 1)
        return self.cross_attention_layer(queries, hidden).squeeze(1)


class _SelfAttentionLayer(nn.Module):
    def __init__(self, architecture: Architecture):
        super().__init__()
        size, eps = architecture.hidden_size, architecture.layer_norm_eps
        self.layer_norm1 = nn.LayerNorm(size, eps=eps)
        self.self_attn = _SelfAttention(architecture)
        self.layer_norm2 = nn.LayerNorm(size, eps=eps)
        self.mlp = _MLP(architecture)

    def forward(self, hidden: Tensor) -> Tensor:
        normed = self.layer_norm1(hidden)
        hidden = hidden + self.self_attn(normed, normed)
        return hidden + self.mlp(self.layer_norm2(hidden))


class _CrossAttentionLayer(nn.Module):
    def __init__(self, architecture: Architecture):
        super().__init__()
        size, eps = architecture.hidden_size, architecture.layer_norm_eps
        self.layer_norm1 = nn.LayerNorm(size, eps=eps)
        self.cross_attn = _Attention(architecture)
        self.layer_norm2 = nn.LayerNorm(size, eps=eps)
        self.mlp = _MLP(architecture)

    def forward(self, queries: Tensor, hidden: Tensor) -> Tensor:
        pooled = queries + self.cross_attn(queries, self.layer_norm1(hidden))
        return pooled + self.mlp(self.layer_norm2(pooled))


class _Attention(nn.Module):
    """Attention of some tokens, of shape (clips, queries, hidden size), to others; without an output projection."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        size = architecture.hidden_size
        self._heads, self._dropout = architecture.num_attention_heads, architecture.attention_dropout
        self.k_proj, self.v_proj, self.q_proj = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, queries: Tensor, hidden: Tensor) -> Tensor:
        attended = F.scaled_dot_product_attention(
            self._split(self.q_proj(queries)),
            self._split(self.k_proj(hidden)),
            self._split(self.v_proj(hidden)),
            dropout_p=self._dropout if self.training else 0.0,
        )
        return attended.transpose(1, 2).flatten(2)

    def _split(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self._heads, -1)).transpose(1, 2)


class _SelfAttention(_Attention):
    def __init__(self, architecture: Architecture):
        super().__init__(architecture)
        self.out_proj = nn.Linear(architecture.hidden_size, architecture.hidden_size)

    def forward(self, queries: Tensor, hidden: Tensor) -> Tensor:
        return self.out_proj(super().forward(queries, hidden))


class _MLP(nn.Module):
    def __init__(self, architecture: Architecture):
        super().__init__()
        size = architecture.hidden_size
        self.fc1, self.fc2 = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        self._activation = _activation(architecture.hidden_act)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.fc2(self._activation(self.fc1(hidden)))


def count_parameters(model: nn.Module) -> ParameterCounts:
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return ParameterCounts(sum(count for count, _ in counts), sum(count for count, trains in counts if trains))


def without_foreign_classifier(names: Set[str], labels: Sequence[str], given: Sequence[str]) -> frozenset[str]:
    """What a head for some classes takes of a checkpoint's weights that fit it.

    Args:
        names: of those weights.
        labels: the classes, in the order of the outputs.
        given: the checkpoint's; a classifier is taken as a whole, and for the same ones alone.
    """
    is_kept = list(labels) == list(given) and names >= CLASSIFIER
    return frozenset(names if is_kept else names - CLASSIFIER)


def draw_classifier(layer: nn.Linear, *, std: float, seed: int) -> dict[str, Tensor]:
    """New weights for a classifier, on the CPU, by the names that they have in its head."""
    generator = torch.Generator().manual_seed(seed)
    weight = nn.init.normal_(torch.empty(layer.weight.shape), std=std, generator=generator)
    return {"classifier.weight": weight, "classifier.bias": torch.zeros(layer.bias.shape)}


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name == "gelu":  # of all V-JEPA 2 that there are
        return F.gelu
    return transformers_private.activation(name)
