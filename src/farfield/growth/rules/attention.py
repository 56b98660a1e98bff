"""Softmax and attention: means with weights of at least 0 that sum to 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.growth.bound_tensor import RULES, BoundTensor, constant
from farfield.growth.dual import refine
from farfield.growth.graph import Free
from farfield.growth.intervals import rounding, tidy
from farfield.growth.rules.arithmetic import neg
from farfield.growth.rules.linear import linear
from farfield.growth.rules.shapes import WHOLE


@RULES.register(F.softmax, torch.softmax, torch.Tensor.softmax)
def softmax(
    x: BoundTensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> BoundTensor:
    """Weights of at least 0 that sum to 1.

    The weight of unit i is ``1 / (1 + sum over j of exp(x_j - x_i))``: least where x_i is least
    and the others are largest.
    """
    axis = _axis(x, dim)
    refine(x.node)
    low, high = x.node.lower, x.node.upper
    lower = _share(low, high, axis) * (1 - 1e-13)
    upper = _share(high, low, axis) * (1 + 1e-13)
    lower = torch.where(lower.isfinite(), lower, 0.0).clamp(0.0, 1.0)
    upper = torch.where(upper.isfinite(), upper, 1.0).clamp(0.0, 1.0)
    return x.hull("softmax", lower, upper, 0.0, simplex=axis == x.ndim - 1)


def _gaps(own: Tensor, others: Tensor, axis: int) -> Tensor:
    """``others_j - own_i`` for j along ``axis`` and i along the next; minus infinity for j = i."""
    gaps = others.unsqueeze(axis + 1) - own.unsqueeze(axis)
    shape = [1] * gaps.ndim
    shape[axis] = shape[axis + 1] = own.shape[axis]
    same = torch.eye(own.shape[axis], dtype=torch.bool).reshape(shape)
    return torch.where(same, -torch.inf, gaps)


def _share(own: Tensor, others: Tensor, axis: int) -> Tensor:
    """The weight of each unit that has the value ``own`` while the rest have ``others``."""
    return 1.0 / (1.0 + _gaps(own, others, axis).exp().sum(axis))


@RULES.register(F.softmin)
def softmin(
    x: BoundTensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> BoundTensor:
    """Softmax of the negated values."""
    return softmax(neg(x), dim)


@RULES.register(F.log_softmax, torch.log_softmax, torch.Tensor.log_softmax)
def log_softmax(
    x: BoundTensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> BoundTensor:
    """The logarithm of softmax: at most 0, and it can fall like the differences of its units."""
    axis = _axis(x, dim)
    refine(x.node)
    low, high = x.node.lower, x.node.upper
    gaps = _gaps(low, high, axis)
    lower = -torch.logsumexp(torch.cat([gaps, torch.zeros_like(low).unsqueeze(axis)], axis), axis)
    lower = torch.where(lower.isnan(), -torch.inf, lower)
    lower = lower - 1e-13 * (1.0 + lower.abs())
    return x.hull("log_softmax", lower, torch.zeros_like(lower), x.highest_degree)


def _axis(x: BoundTensor, dim: int | None) -> int:
    if dim is None:
        raise RULES.unsupported("softmax without dim", "Say over which dimension.")
    axis = dim % x.ndim
    if axis == 0 and x.ndim > 1:
        raise RULES.unsupported("softmax over the batch", "Rows must stay apart.")
    return axis


@RULES.register(F.glu, torch._C._nn.glu)
def glu(x: BoundTensor, dim: int = -1) -> BoundTensor:
    """One half times the logistic function of the other."""
    first, second = torch.chunk(x, 2, dim)
    result = first * torch.sigmoid(second)
    assert isinstance(result, BoundTensor)
    return result


@RULES.register(F.scaled_dot_product_attention)
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float | int = 0.0,
    is_causal: bool = False,
    scale: float | int | None = None,
    enable_gqa: bool = False,
) -> BoundTensor:
    """Means of the values, whatever the weights: each output stays between them."""
    if dropout_p > 0:
        raise RULES.unsupported("attention with dropout", "Call model.eval() first.")
    if not isinstance(value, BoundTensor) or enable_gqa:
        raise RULES.unsupported(
            "attention with constant values or with grouped queries", "Repeat the heads."
        )
    refine(value.node)
    node = value.node
    queries = int(query.shape[-2])
    mask = None if attn_mask is None else _allowed(attn_mask)
    if is_causal:
        mask = torch.ones(queries, int(key.shape[-2]), dtype=torch.bool).tril()
    shape = (*torch.broadcast_shapes(query.shape[:-2], value.shape[:-2]), queries, value.shape[-1])
    if mask is None:
        lower, upper = node.lower.amin(-2, keepdim=True), node.upper.amax(-2, keepdim=True)
        degree = node.degree.amax(-2, keepdim=True)
    else:
        seen = mask.unsqueeze(-1)
        lower = torch.where(seen, node.lower.unsqueeze(-3), torch.inf).amin(-2)
        upper = torch.where(seen, node.upper.unsqueeze(-3), -torch.inf).amax(-2)
        degree = torch.where(seen, node.degree.unsqueeze(-3), 0.0).amax(-2)
    margin = rounding(int(value.shape[-2])) * torch.maximum(lower.abs(), upper.abs())
    lower, upper = tidy(lower - margin, upper + margin)
    others = [x for x in (query, key) if isinstance(x, BoundTensor)]
    return value.hull(
        "attention", lower.expand(shape), upper.expand(shape), degree.expand(shape), others
    )


def _allowed(mask: Tensor) -> Tensor:
    """Which pairs a mask lets through."""
    if isinstance(mask, BoundTensor):
        raise RULES.unsupported("attention with a mask that depends on the input")
    allowed = mask if mask.dtype == torch.bool else ~torch.isneginf(constant(mask))
    if not bool(allowed.any(-1).all()):
        raise RULES.unsupported(
            "attention with a mask that hides every key from a query", "The output is not a number."
        )
    return allowed.cpu()


@RULES.register(F.multi_head_attention_forward)
def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: BoundTensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float | int,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[BoundTensor, Any]:
    """Multi-head attention: its output is linear in means of the values.

    The tensors are (length, batch, features), as ``nn.MultiheadAttention`` hands them over.
    """
    if training and dropout_p > 0:
        raise RULES.unsupported("attention with dropout", "Call model.eval() first.")
    extras = (bias_k, bias_v, static_k, static_v, key_padding_mask)
    if add_zero_attn or any(extra is not None for extra in extras):
        raise RULES.unsupported(
            "multi-head attention with added keys or a padding mask",
            "Attention over all keys, or with attn_mask, has a rule.",
        )
    if not isinstance(value, BoundTensor):
        raise RULES.unsupported("multi-head attention with constant values")
    width = int(out_proj_weight.shape[-1])
    if use_separate_proj_weight:
        assert v_proj_weight is not None
        weight = v_proj_weight
    else:
        assert in_proj_weight is not None
        weight = in_proj_weight[2 * width :]
    bias = None if in_proj_bias is None else in_proj_bias[2 * width :]
    values = linear(value, weight, bias)  # (length, batch, features)
    heads = values.transpose(0, 1)
    assert isinstance(heads, BoundTensor)
    queries = query.transpose(0, 1)
    # Channels keep to themselves, so that one call stands for all heads.
    mask = attn_mask
    if mask is not None and mask.dtype == torch.bool:
        mask = ~mask  # here True hides a key, in scaled_dot_product_attention it shows it
    if mask is not None and mask.ndim == 3:
        raise RULES.unsupported("multi-head attention with a mask for each head")
    mixed = scaled_dot_product_attention(queries, key.transpose(0, 1), heads, mask)
    out = linear(mixed, out_proj_weight, out_proj_bias).transpose(0, 1)
    assert isinstance(out, BoundTensor)
    weights = None
    if need_weights:
        batch, heads_shown = int(value.shape[1]), [] if average_attn_weights else [num_heads]
        shape = [batch, *heads_shown, int(query.shape[0]), int(value.shape[0])]
        zero = torch.zeros(shape, dtype=torch.float64)
        others = [x for x in (query, key) if isinstance(x, BoundTensor)]
        weights = value.hull("attention weights", zero, zero + 1, 0.0, others, simplex=True)
    return out, weights


@RULES.register(F.embedding)
def embedding(
    tokens: BoundTensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | int | None = None,
    *args: object,
    **options: object,
) -> BoundTensor:
    """A row of the table: each unit stays between the least and the largest in its column."""
    if not isinstance(tokens, BoundTensor) or isinstance(weight, BoundTensor):
        raise RULES.unsupported("embedding with a table that depends on the input")
    if max_norm is not None:
        raise RULES.unsupported("embedding with max_norm", "It changes the table as it is used.")
    table = constant(weight)
    node = tokens.node
    if node.place.operation == WHOLE:
        (node,) = node.parents
    if isinstance(node.step, Free) and node.step.is_input:
        tokens.reading.vocabulary = min(tokens.reading.vocabulary or len(table), len(table))
    shape = (*tokens.shape, table.shape[-1])
    return tokens.hull("embedding", table.amin(0).expand(shape), table.amax(0).expand(shape), 0.0)
