"""Sums, products, quotients and choices."""

from __future__ import annotations

import torch
from torch import Tensor

from farfield.growth.balls import recognised
from farfield.growth.bound_tensor import RULES, BoundTensor, constant
from farfield.growth.dual import refine
from farfield.growth.intervals import product
from farfield.growth.rules.elementary import power, reciprocal

Operand = BoundTensor | Tensor | float | int


@RULES.register(
    torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__,
)  # fmt: skip
def add(a: Operand, b: Operand, *, alpha: float | int = 1.0) -> BoundTensor:
    """``a + alpha b``."""
    if alpha != 1:
        b = mul(b, alpha) if isinstance(b, BoundTensor) else b * alpha
    if not isinstance(a, BoundTensor):
        a, b = b, a
    assert isinstance(a, BoundTensor)
    if _is_truth(a) and _is_truth(b):
        raise RULES.unsupported(
            "a sum of truth values", "It is no sum; write .float() behind each."
        )
    if not isinstance(b, BoundTensor):
        return a.affine("add", lambda u: u, offset=constant(b), terms=2)
    return a.affine("add", lambda u, v: u + v, others=[b], terms=2, kind="add")


@RULES.register(torch.sub, torch.Tensor.sub, torch.Tensor.__sub__)
def sub(a: Operand, b: Operand, *, alpha: float | int = 1.0) -> BoundTensor:
    """``a - alpha b``."""
    if isinstance(b, BoundTensor):
        return add(a, mul(b, -float(alpha)))
    return add(a, -(b * alpha))


@RULES.register(torch.rsub, torch.Tensor.__rsub__)
def rsub(b: Operand, a: Operand) -> BoundTensor:
    """``a - b``, as Python asks the second operand for it."""
    return sub(a, b)


@RULES.register(torch.neg, torch.Tensor.neg, torch.Tensor.__neg__)
def neg(x: BoundTensor) -> BoundTensor:
    """``-x``."""
    return mul(x, -1.0)


@RULES.register(torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__)
def mul(a: Operand, b: Operand) -> BoundTensor:
    """The product; a value times itself is its square."""
    if not isinstance(a, BoundTensor):
        a, b = b, a
    assert isinstance(a, BoundTensor)
    if not isinstance(b, BoundTensor):
        return scaled(a, constant(b), "mul")
    if a.node is b.node:
        return power(a, 2)
    for value, factor in ((a, b), (b, a)):
        if (norm := recognised(value, factor)) is not None:
            return norm
    refine(a.node)
    refine(b.node)
    lower, upper = product((a.node.lower, a.node.upper), (b.node.lower, b.node.upper))
    degree = _degrees(a, b)
    return a.hull("mul", lower, upper, degree, [b])


def scaled(x: BoundTensor, factor: Tensor, operation: str, kind: str = "") -> BoundTensor:
    """A value times a constant."""
    positive, negative = factor.clamp(min=0.0), (-factor).clamp(min=0.0)
    plus = (lambda u: u * positive) if bool((factor > 0).any()) else None
    minus = (lambda u: u * negative) if bool((factor < 0).any()) or plus is None else None
    return x.affine(operation, plus, minus, terms=1, kind=kind)


def _degrees(a: BoundTensor, b: BoundTensor) -> Tensor:
    """The degree of a product: the sum, where a bounded factor has degree 0."""
    return a.node.degree + b.node.degree


@RULES.register(
    torch.div, torch.Tensor.div, torch.Tensor.__truediv__, torch.true_divide, torch.divide,
    torch.Tensor.divide, torch.Tensor.true_divide,
)  # fmt: skip
def div(a: Operand, b: Operand, *, rounding_mode: str | None = None) -> BoundTensor:
    """The quotient, of what is known to keep away from 0."""
    if rounding_mode is not None:
        raise RULES.unsupported("div with a rounding mode", "Plain division has a rule.")
    if isinstance(b, BoundTensor):
        return mul(a, reciprocal(b))
    assert isinstance(a, BoundTensor)
    return scaled(a, constant(b).reciprocal(), "div")


@RULES.register(torch.Tensor.__rtruediv__, torch.Tensor.__rdiv__)
def rdiv(b: BoundTensor, a: Operand) -> BoundTensor:
    """``a / b``, as Python asks the second operand for it."""
    return mul(a, reciprocal(b))


@RULES.register(torch.maximum, torch.Tensor.maximum, torch.fmax)
def maximum(a: Operand, b: Operand) -> BoundTensor:
    """The larger one of each pair."""
    return _extreme(a, b, torch.maximum, "maximum")


@RULES.register(torch.minimum, torch.Tensor.minimum, torch.fmin)
def minimum(a: Operand, b: Operand) -> BoundTensor:
    """The smaller one of each pair."""
    return _extreme(a, b, torch.minimum, "minimum")


def _extreme(a: Operand, b: Operand, function: object, name: str) -> BoundTensor:
    if not isinstance(a, BoundTensor):
        a, b = b, a
    assert isinstance(a, BoundTensor)
    assert callable(function)
    low, high, degree = _ends(b)
    lower, upper = function(a.node.lower, low), function(a.node.upper, high)
    others = [b] if isinstance(b, BoundTensor) else []
    return a.hull(name, lower, upper, torch.maximum(a.node.degree, degree), others)


def _ends(x: Operand) -> tuple[Tensor, Tensor, Tensor]:
    if isinstance(x, BoundTensor):
        return x.node.lower, x.node.upper, x.node.degree
    value = constant(x)
    return value, value, torch.zeros_like(value)


@RULES.register(torch.Tensor.where)
def where_method(a: Operand, condition: BoundTensor | Tensor, b: Operand) -> BoundTensor:
    """``a.where(condition, b)``: the method has the condition second."""
    return where(condition, a, b)


@RULES.register(torch.where)
def where(condition: BoundTensor | Tensor, a: Operand, b: Operand) -> BoundTensor:
    """A choice: known where the condition is, anything between both where it is not."""
    sides = [side for side in (a, b) if isinstance(side, BoundTensor)]
    first = sides[0] if sides else condition
    assert isinstance(first, BoundTensor)
    (low, high, degree), (low2, high2, degree2) = _ends(a), _ends(b)
    if isinstance(condition, BoundTensor):
        ends = torch.broadcast_tensors(torch.zeros(condition.shape), low, low2, high, high2)
        lower, upper = torch.minimum(ends[1], ends[2]), torch.maximum(ends[3], ends[4])
        top = torch.maximum(degree, degree2).expand(lower.shape)
        return first.hull("where", lower, upper, top, [condition, *sides])
    if not sides:
        raise RULES.unsupported("where of constants")
    lower, upper = torch.where(condition, low, low2), torch.where(condition, high, high2)
    return first.hull("where", lower, upper, torch.where(condition, degree, degree2), sides)


@RULES.register(torch.masked_fill, torch.Tensor.masked_fill)
def masked_fill(x: BoundTensor, mask: Tensor, value: float | int | Tensor) -> BoundTensor:
    """A constant where the mask is set."""
    if isinstance(value, BoundTensor):
        raise RULES.unsupported("masked_fill with a value that depends on the input")
    return where(mask, torch.as_tensor(value, dtype=torch.float64), x)


@RULES.register(
    torch.gt, torch.Tensor.gt, torch.Tensor.__gt__, torch.ge, torch.Tensor.ge,
    torch.Tensor.__ge__, torch.lt, torch.Tensor.lt, torch.Tensor.__lt__, torch.le,
    torch.Tensor.le, torch.Tensor.__le__, torch.eq, torch.Tensor.eq, torch.Tensor.__eq__,
    torch.ne, torch.Tensor.ne, torch.Tensor.__ne__, torch.logical_and, torch.Tensor.logical_and,
    torch.logical_or, torch.Tensor.logical_or, torch.logical_xor, torch.Tensor.logical_xor,
)  # fmt: skip
def compare(a: Operand, b: Operand) -> BoundTensor:
    """A truth value: 0 or 1."""
    if not isinstance(a, BoundTensor):
        a, b = b, a
    assert isinstance(a, BoundTensor)
    shape = torch.broadcast_shapes(tuple(a.shape), tuple(_ends(b)[0].shape))
    zero = torch.zeros(shape, dtype=torch.float64)
    others = [b] if isinstance(b, BoundTensor) else []
    return a.hull("comparison", zero, zero + 1, 0.0, others, dtype=torch.bool)


@RULES.register(
    torch.Tensor.__and__, torch.Tensor.__rand__, torch.bitwise_and, torch.Tensor.bitwise_and,
    torch.Tensor.__or__, torch.Tensor.__ror__, torch.bitwise_or, torch.Tensor.bitwise_or,
    torch.Tensor.__xor__, torch.Tensor.__rxor__, torch.bitwise_xor, torch.Tensor.bitwise_xor,
)  # fmt: skip
def both_or_one(a: Operand, b: Operand) -> BoundTensor:
    """Two truth values combined to one."""
    if not (_is_truth(a) and _is_truth(b)):
        raise RULES.unsupported("a function of single bits", "Truth values have a rule.")
    return compare(a, b)


@RULES.register(
    torch.Tensor.__invert__, torch.bitwise_not, torch.Tensor.bitwise_not, torch.logical_not,
    torch.Tensor.logical_not,
)  # fmt: skip
def negated(x: BoundTensor) -> BoundTensor:
    """The opposite of a truth value."""
    return both_or_one(x, True)


def _is_truth(x: Operand) -> bool:
    return isinstance(x, bool) or (isinstance(x, Tensor) and x.dtype == torch.bool)


@RULES.refuse(torch.Tensor.__bool__, torch.Tensor.item, torch.Tensor.__float__,
              torch.Tensor.__int__, torch.Tensor.tolist)  # fmt: skip
def decided(x: BoundTensor) -> BoundTensor:
    """Refuse to decide by a value that depends on the input.

    Raises:
        UnsupportedOperation: Always.
    """
    raise RULES.unsupported(
        "a decision of Python by a value that depends on the input",
        "Other inputs may take the other way; torch.where has a rule.",
    )
