"""Linear maps with the model's own weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.errors import SettingsError
from farfield.growth.bound_tensor import RULES, BoundTensor, constant
from farfield.growth.dual import refine
from farfield.growth.intervals import product, rounding, tidy
from farfield.trail import current_module


def split(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix as the difference of two without negative entries."""
    return weight.clamp(min=0.0), (-weight).clamp(min=0.0)


@RULES.register(F.linear)
def linear(x: BoundTensor, weight: Tensor, bias: Tensor | None = None) -> BoundTensor:
    """``W x + b``."""
    if isinstance(weight, BoundTensor) or not isinstance(x, BoundTensor):
        raise RULES.unsupported("linear with a weight computed from the input", "Use matmul.")
    w = constant(weight)
    if w.shape[-1] != x.shape[-1]:
        raise SettingsError(
            f"{current_module()}: the layer takes {w.shape[-1]} features; what reaches it has "
            f"{x.shape[-1]}. Give the shape of one input as input_shape."
        )
    positive, negative = split(w)
    return x.affine(
        "linear",
        lambda u: F.linear(u, positive),
        lambda u: F.linear(u, negative),
        0.0 if bias is None else constant(bias),
        terms=int(w.shape[-1]) + 1,
        kind="linear",
    )


def _convolution(function: Callable[..., Tensor], name: str) -> None:
    """Register a convolution: linear in its input."""

    def rule(
        x: BoundTensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *args: object,
        **options: object,
    ) -> BoundTensor:
        if not isinstance(x, BoundTensor) or isinstance(weight, BoundTensor):
            raise RULES.unsupported(f"{name} with a weight computed from the input")
        w = constant(weight)
        if x.ndim != w.ndim:
            raise SettingsError(
                f"{current_module()}: {name} takes inputs with {w.ndim - 1} dimensions, channels "
                f"first; what reaches it has {x.ndim - 1}. Give input_shape accordingly."
            )
        positive, negative = split(w)
        shift = 0.0 if bias is None else constant(bias).reshape(-1, *(1,) * (w.ndim - 2))
        return x.affine(
            name,
            lambda u: function(u, positive, None, *args, **options),
            lambda u: function(u, negative, None, *args, **options),
            shift,
            terms=w[0].numel() * int(w.shape[0] if "transpose" in name else 1) + 1,
            kind="linear",
        )

    RULES.register(function)(rule)


_CONVOLUTIONS: tuple[Callable[..., Tensor], ...] = (
    F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
)  # fmt: skip
for _function in _CONVOLUTIONS:
    _convolution(_function, str(_function.__name__))


@RULES.register(
    torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.mm, torch.Tensor.mm,
    torch.bmm, torch.Tensor.bmm, torch.mv,
)  # fmt: skip
def matmul(a: BoundTensor | Tensor, b: BoundTensor | Tensor) -> BoundTensor:
    """A matrix product, of which one factor or both may depend on the input."""
    if isinstance(a, BoundTensor) and isinstance(b, BoundTensor):
        return weighted(a, b) if a.node.simplex else _both(a, b)
    if isinstance(a, BoundTensor):
        positive, negative = split(constant(b))
        return a.affine(
            "matmul", lambda u: u @ positive, lambda u: u @ negative,
            terms=int(a.shape[-1]), kind="linear",
        )  # fmt: skip
    assert isinstance(b, BoundTensor)
    positive, negative = split(constant(a))
    return b.affine(
        "matmul", lambda u: positive @ u, lambda u: negative @ u,
        terms=int(positive.shape[-1]), kind="linear",
    )  # fmt: skip


@RULES.register(torch.Tensor.__rmatmul__)
def rmatmul(b: BoundTensor | Tensor, a: BoundTensor | Tensor) -> BoundTensor:
    """``a @ b``, as Python asks the second factor for it."""
    return matmul(a, b)


@RULES.register(torch.addmm)
def addmm(
    shift: Tensor, a: BoundTensor, b: Tensor, *, beta: float | int = 1.0, alpha: float | int = 1.0
) -> BoundTensor:
    """``shift + a @ b``."""
    if beta != 1 or alpha != 1 or isinstance(shift, BoundTensor) or isinstance(b, BoundTensor):
        raise RULES.unsupported("addmm with factors or with several values", "Use matmul and +.")
    return linear(a, constant(b).mT, constant(shift))


@RULES.register(torch.einsum, torch.functional.einsum)
def einsum(equation: str, *operands: Tensor | Sequence[Tensor]) -> BoundTensor:
    """A sum of products with constants: linear in the one operand that depends on the input."""
    first = operands[0]
    values = list(first) if isinstance(first, list | tuple) else list(operands)
    bound = [index for index, value in enumerate(values) if isinstance(value, BoundTensor)]
    if len(bound) != 1:
        raise RULES.unsupported(
            "einsum of several values that depend on the input", "matmul has a rule for two."
        )
    (place,) = bound
    x = values[place]
    assert isinstance(x, BoundTensor)
    rest = [constant(value) for index, value in enumerate(values) if index != place]  # type: ignore[arg-type]
    fixed = {"plus": rest, "minus": rest}
    if len(rest) == 1:
        fixed = dict(zip(("plus", "minus"), ([part] for part in split(rest[0])), strict=True))
    elif any(bool((value < 0).any()) for value in rest):
        raise RULES.unsupported("einsum with several constants", "Multiply the constants first.")

    def part(name: str) -> Callable[[Tensor], Tensor]:
        return lambda u: torch.einsum(equation, *fixed[name][:place], u, *fixed[name][place:])

    terms = x.node.lower.numel()
    minus = part("minus") if len(rest) == 1 else None
    return x.affine("einsum", part("plus"), minus, terms=terms, kind="linear", is_view=not rest)


def _both(a: BoundTensor, b: BoundTensor) -> BoundTensor:
    """The interval product of two matrices, one inner index at a time."""
    refine(a.node)
    refine(b.node)
    low: Tensor | float | int = 0.0
    high: Tensor | float | int = 0.0
    inner = int(a.shape[-1])
    if inner != (b.shape[-2] if b.ndim > 1 else b.shape[0]) or min(a.ndim, b.ndim) < 2:
        raise RULES.unsupported(f"matmul of {tuple(a.shape)} and {tuple(b.shape)}")
    for k in range(inner):
        left = (a.node.lower[..., :, k : k + 1], a.node.upper[..., :, k : k + 1])
        right = (b.node.lower[..., k : k + 1, :], b.node.upper[..., k : k + 1, :])
        least, most = product(left, right)
        low, high = low + least, high + most
    assert isinstance(low, Tensor)
    assert isinstance(high, Tensor)
    margin = rounding(inner)
    low, high = tidy(low - margin * low.abs(), high + margin * high.abs())
    return a.hull("matmul", low, high, a.highest_degree + b.highest_degree, [b])


def weighted(weights: BoundTensor, values: BoundTensor) -> BoundTensor:
    """Means with weights of at least 0 that sum to 1: they stay between the values."""
    refine(values.node)
    node = values.node
    rows = int(weights.shape[-2])
    lower, upper, degree = (
        of.expand(*torch.broadcast_shapes(weights.shape[:-2], of.shape[:-2]), rows, of.shape[-1])
        for of in (
            node.lower.amin(-2, keepdim=True),
            node.upper.amax(-2, keepdim=True),
            node.degree.amax(-2, keepdim=True),
        )
    )
    margin = rounding(int(weights.shape[-1])) * torch.maximum(lower.abs(), upper.abs())
    return values.hull("weighted mean", *tidy(lower - margin, upper + margin), degree, [weights])
