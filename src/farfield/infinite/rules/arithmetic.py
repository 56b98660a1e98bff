"""Sums, products and numbers: residual connections, scalings, gates, concatenations."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.centred import plus
from farfield.infinite.duals.closed import affine, closed_form
from farfield.infinite.duals.numeric import Numeric
from farfield.infinite.gram import Gram, product, total
from farfield.infinite.laws import (
    IDENTITY,
    Data,
    Gaussian,
    Law,
    Mixed,
    Pointwise,
    Sources,
    blend,
    gaussian_of,
    mixed,
)
from farfield.infinite.limit_tensor import KEEP, RULES, LimitTensor, is_parameter, is_trained
from farfield.infinite.pairs import Rows
from farfield.infinite.rules.by_rows import moved_by, rows_of, stretched_by
from farfield.infinite.rules.gains import gained
from farfield.infinite.rules.linear import add_bias
from farfield.infinite.rules.squares import squared
from farfield.reading import ASK

Operand = LimitTensor | Tensor | float | int


@RULES.register(torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__)
def add(a: Operand, b: Operand, *, alpha: float | int = 1.0) -> LimitTensor:
    """The sum: of independent units their kernels add."""
    if alpha != 1.0:
        b = b * alpha
    if isinstance(a, LimitTensor) and isinstance(b, LimitTensor):
        if (known := rows_of(a, b)) is not None:
            return moved_by(*known)
        _check_shapes(a, b, "add")
        return a.with_law(_sum(a.law, b.law))
    units, other = (a, b) if isinstance(a, LimitTensor) else (b, a)
    if isinstance(units, LimitTensor) and isinstance(other, Tensor) and is_parameter(other):
        return add_bias(units, other)
    x, number = _number(a, b, "add")
    if number == 0.0:
        return x.with_law(x.law)
    if isinstance(x.law, Pointwise):
        return x.with_law(Pointwise(x.law.base, plus(x.law.function, number)))
    below = mixed(x.law)
    return x.with_law(below.around(below.mean.map(torch.add, number)))


@RULES.register(torch.sub, torch.Tensor.sub, torch.Tensor.__sub__, torch.subtract)
def sub(a: Operand, b: Operand, *, alpha: float | int = 1.0) -> LimitTensor:
    """The difference."""
    return add(a, -b, alpha=alpha)


@RULES.register(torch.rsub, torch.Tensor.__rsub__)
def rsub(a: Operand, b: Operand) -> LimitTensor:
    """The difference ``b - a``."""
    return sub(b, a)


@RULES.register(torch.neg, torch.Tensor.neg, torch.Tensor.__neg__, torch.negative)
def neg(x: LimitTensor) -> LimitTensor:
    """The negative."""
    return mul(x, -1.0)


@RULES.register(
    torch.mul,
    torch.Tensor.mul,
    torch.Tensor.__mul__,
    torch.Tensor.__rmul__,
    torch.multiply,
    mark=KEEP,
)
def mul(a: Operand, b: Operand) -> LimitTensor:
    """The product: with a number, or of independent units."""
    if isinstance(a, LimitTensor) and isinstance(b, LimitTensor):
        if (known := rows_of(a, b)) is not None:
            return stretched_by(*known)
        _check_shapes(a, b, "mul")
        if a.law is b.law and isinstance(a.law, Mixed):
            return squared(a, a.law)
        return a.with_law(_product(a.law, b.law))
    units, other = (a, b) if isinstance(a, LimitTensor) else (b, a)
    if isinstance(units, LimitTensor) and isinstance(other, Tensor) and _is_gain(units, other):
        return gained(units, other, "mul")
    x, number = _number(a, b, "mul")
    law = x.law
    if isinstance(law, Pointwise):
        return x.with_law(Pointwise(law.base, affine(law.function, number, 0.0)))
    return x.with_law(mixed(law).times(number))


@RULES.register(torch.Tensor.__rtruediv__)
def rdiv(a: Operand, b: Operand) -> LimitTensor:
    """The quotient ``b / a``."""
    return div(b, a)


@RULES.register(
    torch.div, torch.Tensor.div, torch.Tensor.__truediv__, torch.divide, torch.true_divide
)
def div(a: Operand, b: Operand) -> LimitTensor:
    """The quotient with a number, or of functions of the same units."""
    if isinstance(b, LimitTensor):
        return mul(a, torch.reciprocal(b))
    _, number = _number(a, b, "div")
    return mul(a, 1.0 / number)


@RULES.register(torch.cat, torch.concat, torch.concatenate)
def cat(tensors: Sequence[LimitTensor | Tensor], dim: int = 0) -> LimitTensor:
    """Units side by side: a linear map sees their moments weighed with the widths."""
    first = next(tensor for tensor in tensors if isinstance(tensor, LimitTensor))
    units = [_lifted(tensor, first) for tensor in tensors]
    if dim % first.ndim != first.ndim - 1 or first.ndim < 2:
        raise RULES.unsupported("cat", "Only the last dimension, the one of units, has a rule.")
    widths = [tensor.shape[-1] for tensor in units]
    shape = (*first.shape[:-1], sum(widths))
    laws = [mixed(tensor.law) for tensor in units]
    return first.with_law(blend(laws, widths), shape)


def _lifted(tensor: LimitTensor | Tensor, like: LimitTensor) -> LimitTensor:
    """Constants beside units: known numbers, the same for every input."""
    if isinstance(tensor, LimitTensor):
        return tensor
    if is_trained(tensor) or tuple(tensor.shape[:-1]) != tuple(like.shape[:-1]):
        raise RULES.unsupported(
            f"cat with a tensor of shape {tuple(tensor.shape)} that does not come from the input",
            "Constants in the shape of the batch have a rule, parameters have none.",
        )
    row = constant_row(tensor)
    rows = mixed(like.law).mean
    lefts, rights = (
        row.to(values).expand(values.shape[-1], *row.shape) for values in (rows.left, rows.right)
    )
    same = rows.left is rows.right
    return like.with_law(Data(Rows(lefts, lefts if same else rights)), tuple(tensor.shape))


def _sum(a: Law, b: Law) -> Law:
    if isinstance(a, Pointwise) and isinstance(b, Pointwise) and a.base is b.base:
        return Pointwise(a.base, joined(a.function, b.function, operator.add, "a sum"))
    first, second = gaussian_of(a), gaussian_of(b)
    _check_independent(a, b, "sum")
    if first is not None and second is not None:
        both = Gaussian(
            first.gram.plus(second.gram),
            total([first.tangent, second.tangent]),
            (*first.gains, *second.gains),
            first.sources | second.sources,
        )
        return Pointwise(both, IDENTITY)
    one, two = mixed(a), mixed(b)
    tangent = total([one.tangent, two.tangent])
    mean, sources = one.mean.map(torch.add, two.mean), one.sources | two.sources
    if first is not None or second is not None:  # one of the means is zero
        gram = one.gram.plus(two.gram)
        return Mixed(gram, mean, tangent, sources, lambda: one.covariance().plus(two.covariance()))
    spread = one.covariance().plus(two.covariance())
    return Mixed(spread.plus(product(mean)), mean, tangent, sources, lambda: spread)


def _product(a: Law, b: Law) -> Law:
    if isinstance(a, Pointwise) and isinstance(b, Pointwise) and a.base is b.base:
        return Pointwise(a.base, joined(a.function, b.function, operator.mul, "a product"))
    _check_independent(a, b, "product")
    one, two = mixed(a), mixed(b)
    tangent = total(
        [
            None if one.tangent is None else one.tangent.times(two.gram.plain()),
            None if two.tangent is None else two.tangent.times(one.gram.plain()),
        ]
    )
    gram, mean = one.gram.times(two.gram), one.mean * two.mean

    def varying() -> Gram:
        first, second = one.covariance(), two.covariance()
        return (
            first.times(second)
            .plus(first.times(product(two.mean)))
            .plus(product(one.mean).times(second))
        )

    return Mixed(gram, mean, tangent, one.sources | two.sources, varying)


def joined(a: Activation, b: Activation, join: Callable[..., Any], name: str) -> Activation:
    """Two functions of the same units, added or multiplied: in closed form if there is one."""
    if a.halves is not None and b.halves is not None:
        closed = closed_form(join(a.halves, b.halves))
        if closed is not None:
            return closed
    return Numeric(lambda u: join(a.value(u), b.value(u)), {*a.kinks, *b.kinks}, name)


def _is_gain(units: LimitTensor, other: Tensor) -> bool:
    """Whether a tensor is a vector of parameters with a number for each unit."""
    width = tuple(units.shape[-1:])
    return is_parameter(other) and tuple(other.shape) == width and other.numel() > 1


def _check_independent(a: Law, b: Law, what: str) -> None:
    pairs = itertools.product(mixed_sources(a), mixed_sources(b))
    if any(one.overlaps(other) for one, other in pairs):
        raise RULES.unsupported(
            f"the {what} of units that come from the same random map",
            "They are not independent, and so far only independent ones have a rule; put a "
            "linear layer into one of the branches.",
        )


def mixed_sources(law: Law) -> Sources:
    """The random maps that a law comes from."""
    if isinstance(law, Pointwise):
        return law.base.sources
    return mixed(law).sources


def _check_shapes(a: LimitTensor, b: LimitTensor, what: str) -> None:
    if a.shape != b.shape:
        raise RULES.unsupported(
            f"{what} of shapes {tuple(a.shape)} and {tuple(b.shape)}", "They must be equal."
        )


def _number(a: Operand, b: Operand, what: str) -> tuple[LimitTensor, float]:
    x, other = (a, b) if isinstance(a, LimitTensor) else (b, a)
    if not isinstance(x, LimitTensor):
        raise RULES.unsupported(what)
    if is_trained(other):
        raise RULES.unsupported(
            f"{what} with a parameter, or something computed from one",
            "It would be trained, and only gains of norms have a rule; detach or freeze it.",
        )
    if isinstance(other, Tensor) and other.numel() != 1:
        raise RULES.unsupported(
            f"{what} with a tensor of shape {tuple(other.shape)}",
            "Units would no longer have the same law; a single number has a rule.",
        )
    return x, float(other)


def constant_row(numbers: Tensor) -> Tensor:
    """The row that a batch of numbers consists of.

    Raises:
        UnsupportedOperation: Its rows differ, so that the model is no function of one input.
    """
    if numbers.shape[0] == 0 or bool((numbers != numbers[:1]).any()):
        raise RULES.unsupported(
            f"a constant of shape {tuple(numbers.shape)} whose rows differ",
            "What belongs to a row must be computed from that row of the input.",
        )
    return numbers[0].detach()


@RULES.register(torch.ones_like, mark=ASK)
def ones_like(x: LimitTensor, **options: Any) -> Tensor:
    """Ones in the shape of the units: constants."""
    return torch.ones(tuple(x.shape), dtype=x.dtype, device=x.device)


@RULES.register(torch.zeros_like, mark=ASK)
def zeros_like(x: LimitTensor, **options: Any) -> Tensor:
    """Zeros in the shape of the units."""
    return torch.zeros(tuple(x.shape), dtype=x.dtype, device=x.device)


@RULES.register(torch.Tensor.new_ones, mark=ASK)
def new_ones(x: LimitTensor, *size: Any, **options: Any) -> Tensor:
    """Ones in another shape."""
    return torch.ones(*size, dtype=x.dtype, device=x.device)


@RULES.register(torch.Tensor.new_zeros, mark=ASK)
def new_zeros(x: LimitTensor, *size: Any, **options: Any) -> Tensor:
    """Zeros in another shape."""
    return torch.zeros(*size, dtype=x.dtype, device=x.device)
