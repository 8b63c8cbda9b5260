"""V-JEPA 2's transformer block with less work around its matrix products, for a GPU.

The checkpoint's own weights, and the function that transformers computes with them. What differs: the rotary tables are
computed once, in fp32 (transformers computes the angles in the activations' own format); the residual stream stays
fp32, but in a head that is not compiled; query, key and value are one product; everything between the products may be
compiled into a few kernels; fp32 products may be put together from TF32 ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vjepa_mlflow.internals.torch_private import copy_each
from vjepa_mlflow.model.attention import Attention, have_kernels_ordered
from vjepa_mlflow.model.device import matmul_precision
from vjepa_mlflow.model.head import Architecture, Head

Multiply = Callable[..., Tensor]
"""Like `torch.nn.functional.linear`: inputs (..., inputs), a weight (outputs, inputs), perhaps a bias."""

Layer = Any
"""A module of transformers, whose parts are known by name and not by type."""

Cast = Callable[[Tensor], Tensor]
"""Gives a weight as it is computed with."""


class Rotary(NamedTuple):
    """Cosines and signed sines of shape (tokens, head size), in fp32: `x * cos + swap_pairs(x) * sin` rotates x."""

    cos: Tensor
    sin: Tensor


class Affine(NamedTuple):
    """Weight and bias of a linear layer or of a layer norm."""

    weight: Tensor
    bias: Tensor


class BlockWeights(NamedTuple):
    """One transformer block; `qkv` stacks query, key and value. Tensors alone, so that all blocks share one kernel."""

    norm1: Affine
    qkv: Affine
    out: Affine
    norm2: Affine
    fc1: Affine
    fc2: Affine


class PoolWeights(NamedTuple):
    """The pooler's cross-attention."""

    norm1: Affine
    query: Affine
    key: Affine
    value: Affine
    norm2: Affine
    fc1: Affine
    fc2: Affine


class Tubelet(NamedTuple):
    """Frames, and pixels along each side, of the piece of video that becomes a token."""

    depth: int
    side: int


class Sizes(NamedTuple):
    """What a block computes with, and is compiled for, besides the shape of its input."""

    heads: int
    eps: float
    dtype: torch.dtype
    attend: Attention
    multiply: Multiply
    is_compiled: bool


def knows(config: Architecture) -> bool:
    """Whether a model of this configuration computes what this module computes."""
    return (
        config.hidden_act == "gelu"
        and bool(config.qkv_bias)
        and config.hidden_size % config.num_attention_heads == 0
        and config.attention_dropout == 0
        and config.frames_per_clip % config.tubelet_size == 0
    )


def embed(pixels: Tensor, patches: Affine, tubelet: Tubelet, sizes: Sizes) -> Tensor:
    """Pixels of shape (clips, frames, 3, height, width) to hidden states of shape (clips, tokens, hidden size), fp32.

    The embedding's convolution looks at every place once, so it is the product of its weight and each place's pixels.
    """
    depth, side = tubelet
    parts = pixels.unflatten(1, (-1, depth)).unflatten(-2, (-1, side)).unflatten(-1, (-1, side))
    # clips, time, frame, channel, row, y, column, x -> clips, time, row, column, channel, frame, y, x
    tokens = parts.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(1, 3)
    return _exact_linear(tokens.to(sizes.dtype), patches, sizes).float()


def block(hidden: Tensor, weights: BlockWeights, rotary: Rotary | None, sizes: Sizes) -> Tensor:
    """Hidden states of shape (clips, tokens, hidden size) through one block; the products are in `dtype`."""
    clips, tokens, size = hidden.shape
    qkv = _linear(_norm(hidden, weights.norm1, sizes), weights.qkv, sizes)
    query, key, value = qkv.view(clips, tokens, 3, sizes.heads, size // sizes.heads).unbind(2)
    if rotary is not None:
        rotate = _rotate if sizes.is_compiled else _rotate_in_few_passes
        query, key = rotate(query, rotary), rotate(key, rotary)
    attended = sizes.attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
    hidden = hidden + _exact_linear(attended.transpose(1, 2).reshape(clips, tokens, size), weights.out, sizes)
    return hidden + _mlp(_norm(hidden, weights.norm2, sizes), weights.fc1, weights.fc2, sizes)


def pool(hidden: Tensor, query: Tensor, weights: PoolWeights, sizes: Sizes) -> Tensor:
    """The pooler's cross-attention, one query over all tokens: the result is of shape (clips, hidden size).

    With a single query it is cheaper to bring the query to the tokens than all tokens to keys and values: the key's
    weight is multiplied into the query, and the value's is applied to the tokens' mean. The key's bias adds the same to
    all scores, and softmax forgets it.
    """
    head_size = len(query) // sizes.heads
    normed = _norm(hidden, weights.norm1, sizes)
    asked = F.linear(query, *weights.query).view(sizes.heads, 1, head_size)
    asked = (asked @ weights.key.weight.view(sizes.heads, head_size, -1)).squeeze(1)  # heads, hidden size
    shares = (F.linear(normed, asked.to(sizes.dtype)).float() * head_size**-0.5).softmax(dim=1)  # clips, tokens, heads
    means = (shares.to(sizes.dtype).transpose(1, 2) @ normed).float()  # clips, heads, hidden size
    values = means.transpose(0, 1) @ weights.value.weight.view(sizes.heads, head_size, -1).transpose(1, 2)
    pooled = query + values.transpose(0, 1).flatten(1) + weights.value.bias
    return pooled + _mlp(_norm(pooled, weights.norm2, sizes), weights.fc1, weights.fc2, sizes)


def _norm(hidden: Tensor, norm: Affine, sizes: Sizes) -> Tensor:
    weight, bias = norm.weight.to(hidden.dtype), norm.bias.to(hidden.dtype)
    return F.layer_norm(hidden, weight.shape, weight, bias, sizes.eps).to(sizes.dtype)


def _linear(inputs: Tensor, layer: Affine, sizes: Sizes) -> Tensor:
    return sizes.multiply(inputs, layer.weight.to(inputs.dtype), layer.bias.to(inputs.dtype))


def _exact_linear(inputs: Tensor, layer: Affine, sizes: Sizes) -> Tensor:
    """With the bias added in fp32, where compilation makes it free: it joins what comes next.

    By itself it would be a pass over memory, and is left to the product.
    """
    if not sizes.is_compiled:
        return _linear(inputs, layer, sizes)
    return sizes.multiply(inputs, layer.weight.to(inputs.dtype)).float() + layer.bias


def _mlp(inputs: Tensor, fc1: Affine, fc2: Affine, sizes: Sizes) -> Tensor:
    return _exact_linear(F.gelu(_exact_linear(inputs, fc1, sizes)).to(inputs.dtype), fc2, sizes)


def _rotate(heads: Tensor, rotary: Rotary) -> Tensor:
    """Rotates queries or keys of shape (clips, tokens, heads, head size)."""
    exact = heads.float()
    swapped = exact.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return (exact * rotary.cos[:, None] + swapped * rotary.sin[:, None]).to(heads.dtype)


def _rotate_in_few_passes(heads: Tensor, rotary: Rotary) -> Tensor:
    """Does the same where each operation by itself goes through all of memory."""
    swapped = heads.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(heads * rotary.cos[:, None], swapped, rotary.sin[:, None]).to(heads.dtype)


def make_rotary(config: Architecture, device: torch.device) -> Rotary:
    """The tables of a configuration's position encoding: a third of each head for time, height and width each.

    As in transformers' `VJEPA2RopeAttention`, the frequencies of a third are repeated as a whole and not pairwise.
    """
    grid = config.crop_size // config.patch_size
    tokens = torch.arange(config.frames_per_clip // config.tubelet_size * grid * grid, device=device)
    head_size = config.hidden_size // config.num_attention_heads
    third = 2 * (head_size // 3 // 2)
    frequencies = 1 / 10000 ** (torch.arange(third // 2, device=device) / (third / 2))
    axes = [tokens // (grid * grid), tokens % (grid * grid) // grid, tokens % grid]
    angles = [axis[:, None] * frequencies.repeat(2) for axis in axes]
    unrotated = torch.zeros(len(tokens), head_size - 3 * third, device=device)
    table = torch.cat([*angles, unrotated], dim=-1)
    signs = torch.tensor([-1.0, 1.0], device=device).repeat(head_size // 2)
    return Rotary(table.cos(), table.sin() * signs)


class LeanEncoder:
    """The frozen encoder of a classifier: pixels to features.

    Args:
        weights: the classifier's, by their names, those of the encoder at least, on one device.
        architecture: of the classifier.
        dtype: of the products, and of the features.
        attend: `fused_attention` or another.
        multiply: `F.linear`, or `split_linear`; TF32 products are allowed inside, so in fp32 the one is TF32 on a GPU,
            the other puts fp32 together from it.
        is_compiled: whether what lies between products is compiled.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        architecture: Architecture,
        *,
        dtype: torch.dtype,
        attend: Attention,
        multiply: Multiply = F.linear,
        is_compiled: bool = False,
    ):
        patches = _affine_of(weights, "embeddings.patch_embeddings.proj")
        if patches.weight.is_cuda:
            have_kernels_ordered(patches.weight.device)
        self._tubelet = Tubelet(architecture.tubelet_size, architecture.patch_size)
        self._patches = Affine(patches.weight.flatten(1).to(dtype), patches.bias)
        self._rotary = make_rotary(architecture, patches.weight.device)
        layers = range(architecture.num_hidden_layers)
        self._blocks = [_encoder_block(weights, f"layer.{index}", dtype) for index in layers]
        self._norm = _affine_of(weights, "layernorm")
        heads, eps = architecture.num_attention_heads, architecture.layer_norm_eps
        self._sizes = Sizes(heads, eps, dtype, attend, multiply, is_compiled)
        self._embed = _compiled(embed) if is_compiled else embed
        self._block = _compiled(block) if is_compiled else block

    @torch.no_grad()
    @matmul_precision("tf32")
    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels of shape (clips, frames, 3, height, width) to features of shape (clips, tokens, hidden size)."""
        hidden = self._embed(pixels, self._patches, self._tubelet, self._sizes)
        for weights in self._blocks:
            hidden = self._block(hidden, weights, self._rotary, self._sizes)
        return _norm(hidden, self._norm, self._sizes)


def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    from vjepa_mlflow.model.compiled import compiled

    return compiled(function)


class LeanHead:
    """The head of a classifier, for training: features to logits, with gradients for the head's own parameters.

    Args:
        head: pooler and classifier.
        dtype: of the products.
        attend: one whose gradients are the same every time, such as `plain_attention`.
        is_compiled: whether what lies between products is compiled.
    """

    def __init__(self, head: Head, *, dtype: torch.dtype, attend: Attention, is_compiled: bool = False):
        architecture = head.architecture
        heads, eps = architecture.num_attention_heads, architecture.layer_norm_eps
        self._head = head
        self._sizes = Sizes(heads, eps, dtype, attend, F.linear, is_compiled)
        self._block = _compiled(block) if is_compiled else block
        self._pool = _compiled(pool) if is_compiled else pool

    def __call__(self, features: Tensor) -> Tensor:
        """Features of shape (clips, tokens, hidden size) to logits of shape (clips, classes), fp32."""
        pooler, hidden, cast = self._head.pooler, self._first(features.detach()), self._cast()
        for layer in pooler.self_attention_layers:
            hidden = self._block(hidden, _pooler_block(layer, cast), None, self._sizes)
        weights = _pool_weights(pooler.cross_attention_layer, cast)
        return self._head.classifier(self._pool(hidden, pooler.query_tokens.flatten(), weights, self._sizes))

    def _cast(self) -> Cast:
        """Gives the weights as they are computed with.

        Where nothing is compiled, those that are cast for each pass are so at once, for some three bytes a parameter of
        memory: one kernel after the other takes longer.
        """
        if self._sizes.is_compiled or self._sizes.dtype == torch.float32:
            return lambda weight: weight
        pooler, pool = self._head.pooler, self._head.pooler.cross_attention_layer
        modules = [*pooler.self_attention_layers, pool.layer_norm1, pool.mlp]
        weights = [weight for module in modules for weight in module.parameters()]
        cast = dict(zip(weights, _CastAtOnce.apply(self._sizes.dtype, *weights), strict=True))
        return lambda weight: cast.get(weight, weight)

    def _first(self, features: Tensor) -> Tensor:
        """What the residual stream begins with.

        Where it is not compiled, each pass over it counts: 2.2 ms a clip of the ViT-L instead of 2.4 on an H100. The
        gradient of a window errs by 1.1% then, instead of 1.0; that of transformers in bf16 errs by 1.3%.
        """
        if not self._sizes.is_compiled:
            return features.to(self._sizes.dtype)
        # With a gradient that nobody asks for, the first layer is compiled as the others are, and not once more.
        return features.float().requires_grad_()


class _CastAtOnce(torch.autograd.Function):
    """Casts tensors in one go, and their gradients back, with the same bits as one by one."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.dtype = tensors[0].dtype
        return _cast_at_once(tensors, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_cast_at_once(gradients, ctx.dtype)


def _cast_at_once(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    cast = tuple(torch.empty(tensor.shape, dtype=dtype, device=tensor.device) for tensor in tensors)
    copy_each(cast, tensors)
    return cast


def _affine(layer: Layer, cast: Cast) -> Affine:
    return Affine(cast(layer.weight), cast(layer.bias))


def _stacked(layers: Sequence[Layer], cast: Cast) -> Affine:
    weights, biases = zip(*(_affine(layer, cast) for layer in layers), strict=True)
    return Affine(torch.cat(weights), torch.cat(biases))


def _affine_of(weights: Mapping[str, Tensor], name: str) -> Affine:
    """Those of a layer of the encoder."""
    return Affine(weights[f"vjepa2.encoder.{name}.weight"], weights[f"vjepa2.encoder.{name}.bias"])


def _encoder_block(weights: Mapping[str, Tensor], name: str, dtype: torch.dtype) -> BlockWeights:
    norm1, query, key, value, out, norm2, fc1, fc2 = (
        _affine_of(weights, f"{name}.{part}")
        for part in (
            "norm1",
            "attention.query",
            "attention.key",
            "attention.value",
            "attention.proj",
            "norm2",
            "mlp.fc1",
            "mlp.fc2",
        )
    )

    def cast(affine: Affine) -> Affine:
        """The weight of a product is cast once; biases, like norms, stay as they are."""
        return Affine(affine.weight.to(dtype), affine.bias)

    qkv = Affine(*map(torch.cat, zip(query, key, value, strict=True)))
    return BlockWeights(norm1, cast(qkv), cast(out), norm2, cast(fc1), cast(fc2))


def _pooler_block(layer: Layer, cast: Cast) -> BlockWeights:
    attention, mlp = layer.self_attn, layer.mlp
    return BlockWeights(
        _affine(layer.layer_norm1, cast),
        _stacked((attention.q_proj, attention.k_proj, attention.v_proj), cast),
        _affine(attention.out_proj, cast),
        _affine(layer.layer_norm2, cast),
        _affine(mlp.fc1, cast),
        _affine(mlp.fc2, cast),
    )


def _pool_weights(layer: Layer, cast: Cast) -> PoolWeights:
    attention, mlp = layer.cross_attn, layer.mlp
    parts = (
        layer.layer_norm1,
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        layer.layer_norm2,
        mlp.fc1,
        mlp.fc2,
    )
    return PoolWeights(*(_affine(part, cast) for part in parts))


def split_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """An fp32 product out of three TF32 ones, where those are allowed: each factor is a TF32 number and a TF32 rest.

    The product of the rests, some 2**-22 of the whole, is left out. Weights are divided anew each time: if they were
    kept, their parts would take three times the memory. PyTorch's fused attention multiplies fp32 in the same way
    (CUTLASS's `OpMultiplyAddFastF32`, "3xTF32").
    """
    (left, left_rest), (right, right_rest) = _tf32_parts(inputs), _tf32_parts(weight)
    return F.linear(torch.cat([left_rest, left, left], -1), torch.cat([right, right_rest, right], -1), bias)


def _tf32_parts(exact: Tensor) -> tuple[Tensor, Tensor]:
    nearest = _nearest_tf32(exact)
    return nearest, _nearest_tf32(exact - nearest)


def _nearest_tf32(exact: Tensor) -> Tensor:
    """Rounds fp32 numbers to the 10 bits of mantissa that TF32 has, 13 fewer than they have."""
    bits = exact.view(torch.int32) + (1 << 12) & -(1 << 13)
    return torch.where(exact.isfinite(), bits.view(torch.float32), exact)
