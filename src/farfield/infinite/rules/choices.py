"""Functions by cases: comparisons, where, the larger of two."""

from __future__ import annotations

import torch
from torch import Tensor

from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.closed import affine, closed_form
from farfield.infinite.duals.numeric import Numeric
from farfield.infinite.laws import IDENTITY, Pointwise
from farfield.infinite.limit_tensor import RULES, LimitTensor, is_trained
from farfield.infinite.rules.activations import heaviside
from farfield.infinite.rules.arithmetic import Operand, sub


@RULES.register(torch.gt, torch.Tensor.gt, torch.Tensor.__gt__, torch.greater)
@RULES.register(torch.ge, torch.Tensor.ge, torch.Tensor.__ge__, torch.greater_equal)
def greater(a: Operand, b: Operand) -> LimitTensor:
    """1 where a > b, else 0; equal values have probability zero."""
    return heaviside(sub(a, b), torch.zeros(()))


@RULES.register(torch.lt, torch.Tensor.lt, torch.Tensor.__lt__, torch.less)
@RULES.register(torch.le, torch.Tensor.le, torch.Tensor.__le__, torch.less_equal)
def less(a: Operand, b: Operand) -> LimitTensor:
    """1 where a < b, else 0."""
    return greater(b, a)


@RULES.register(torch.where)
def where(condition: LimitTensor, a: Operand, b: Operand) -> LimitTensor:
    """One function or another of the same units.

    Raises:
        UnsupportedOperation: The three do not belong to the same units.
    """
    units = [x for x in (condition, a, b) if isinstance(x, LimitTensor)]
    laws = [x.law for x in units]
    first = laws[0]
    if not isinstance(first, Pointwise) or not all(
        isinstance(law, Pointwise) and law.base is first.base for law in laws
    ):
        raise RULES.unsupported(
            "a choice between different units", "Functions of the same Gaussian units have a rule."
        )
    cases = [_function(x) for x in (condition, a, b)]
    return units[0].with_law(Pointwise(first.base, _chosen(*cases)))


def _function(x: Operand) -> Activation:
    if isinstance(x, LimitTensor):
        assert isinstance(x.law, Pointwise)
        return x.law.function
    return affine(IDENTITY, 0.0, _one_number(x))


def _one_number(x: Tensor | float | int) -> float:
    if not isinstance(x, Tensor):
        return float(x)
    if is_trained(x) or not x.numel() or bool((x != x.flatten()[0]).any()):
        raise RULES.unsupported("a choice of a tensor", "A number for all units has a rule.")
    return float(x.flatten()[0])


def _chosen(condition: Activation, a: Activation, b: Activation) -> Activation:
    if condition.halves is not None and a.halves is not None and b.halves is not None:
        rest = condition.halves.affine(-1.0, 1.0)
        closed = closed_form(condition.halves * a.halves + rest * b.halves)
        if closed is not None:
            return closed
    bends = {*condition.kinks, *a.kinks, *b.kinks}
    return Numeric(
        lambda u: torch.where(condition.value(u) > 0.5, a.value(u), b.value(u)), bends, "where"
    )


@RULES.register(torch.Tensor.where)
def where_method(a: LimitTensor, condition: LimitTensor, b: Operand) -> LimitTensor:
    """The same as a method, whose arguments stand in another order."""
    return where(condition, a, b)


@RULES.register(torch.Tensor.masked_fill, torch.masked_fill)
def masked_fill(a: LimitTensor, mask: LimitTensor, value: Operand) -> LimitTensor:
    """A number instead of the units that are chosen."""
    return where(mask, value, a)


@RULES.register(torch.maximum, torch.Tensor.maximum, torch.max, torch.Tensor.max)
def maximum(a: Operand, b: Operand) -> LimitTensor:
    """The larger of two functions of the same units."""
    one, other = _operands(a, b, "max")
    return where(greater(one, other), one, other)


@RULES.register(torch.minimum, torch.Tensor.minimum, torch.min, torch.Tensor.min)
def minimum(a: Operand, b: Operand) -> LimitTensor:
    """The smaller of two functions of the same units."""
    one, other = _operands(a, b, "min")
    return where(greater(one, other), other, one)


def _operands(a: Operand, b: Operand, what: str) -> list[LimitTensor | float]:
    """Units, and the numbers that they are compared with."""
    if not isinstance(b, Tensor):  # ``max(x, 1)``: over a dimension
        raise RULES.unsupported(
            f"{what} over units", "It does not average out; the larger of two functions has a rule."
        )
    return [x if isinstance(x, LimitTensor) else _one_number(x) for x in (a, b)]
