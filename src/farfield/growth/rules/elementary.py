"""Waves, exponentials, logarithms, powers and other functions of each entry."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from farfield.growth.bound_tensor import RULES, BoundTensor
from farfield.growth.curves import Bend, Curve, constant_bend
from farfield.growth.dual import refine
from farfield.growth.rules.pointwise import SLACK, apply, smooth

_INF = math.inf


@RULES.register(torch.sin, torch.Tensor.sin)
def sin(x: BoundTensor) -> BoundTensor:
    """The sine."""
    return _wave(x, torch.sin, "sin", math.pi / 2)


@RULES.register(torch.cos, torch.Tensor.cos)
def cos(x: BoundTensor) -> BoundTensor:
    """The cosine."""
    return _wave(x, torch.cos, "cos", 0.0)


def _wave(
    x: BoundTensor, function: Callable[[Tensor], Tensor], name: str, peak: float | int
) -> BoundTensor:
    """A wave: where it may turn is listed near 0; far away it is anything between -1 and 1."""
    count = 64
    near = peak + count * math.pi

    def value(u: Tensor) -> Tensor:
        return function(u)

    turns = tuple(peak + k * math.pi for k in range(-count, count + 1))
    refine(x.node)
    if bool((x.node.lower < -near).any() or (x.node.upper > near).any()):
        return x.hull(name, -torch.ones_like(x.node.lower), torch.ones_like(x.node.lower), 0.0)
    curve = smooth(value, name, -1.0, 1.0, constant_bend(1.0), turns=turns, least=-1.0, most=1.0)
    return apply(x, curve)


@RULES.register(torch.exp, torch.Tensor.exp)
def exp(x: BoundTensor) -> BoundTensor:
    """The exponential: it grows faster than any power."""
    return apply(
        x,
        Curve("exp", torch.exp, 0.0, _INF, right_power=_INF, bend=lambda a, b: b.exp(), least=0.0),
    )


@RULES.register(torch.expm1, torch.Tensor.expm1)
def expm1(x: BoundTensor) -> BoundTensor:
    """exp(y) - 1."""
    return apply(
        x,
        Curve("expm1", torch.expm1, -1.0, _INF, right_power=_INF, bend=lambda a, b: b.exp(),
              slack=SLACK, least=-1.0),
    )  # fmt: skip


@RULES.register(torch.log, torch.Tensor.log)
def log(x: BoundTensor) -> BoundTensor:
    """The logarithm, of what is known to be positive."""
    _need(x, "log", 0.0)
    return apply(x, Curve("log", torch.log, -_INF, _INF, right_power=0.0, slack=SLACK))


@RULES.register(torch.log1p, torch.Tensor.log1p)
def log1p(x: BoundTensor) -> BoundTensor:
    """log(1 + y), of what is known to be above -1."""
    _need(x, "log1p", -1.0)
    return apply(x, Curve("log1p", torch.log1p, -_INF, _INF, right_power=0.0, slack=SLACK))


@RULES.register(torch.sqrt, torch.Tensor.sqrt)
def sqrt(x: BoundTensor) -> BoundTensor:
    """The root, of what is known to be at least 0."""
    _need(x, "sqrt", 0.0, inclusive=True)
    return apply(x, Curve("sqrt", torch.sqrt, 0.0, _INF, right_power=0.5, least=0.0))


@RULES.register(torch.rsqrt, torch.Tensor.rsqrt)
def rsqrt(x: BoundTensor) -> BoundTensor:
    """One over the root, of what is known to be positive."""
    _need(x, "rsqrt", 0.0)
    return apply(x, Curve("rsqrt", torch.rsqrt, _INF, 0.0, least=0.0))


@RULES.register(torch.reciprocal, torch.Tensor.reciprocal)
def reciprocal(x: BoundTensor) -> BoundTensor:
    """One over what is known to keep away from 0."""
    refine(x.node)
    if bool(((x.node.lower <= 0) & (x.node.upper >= 0)).any()):
        raise RULES.unsupported(
            "a division by a value that may be 0", "Add a positive number to the denominator."
        )
    return apply(x, Curve("reciprocal", torch.reciprocal, 0.0, 0.0))


def _need(x: BoundTensor, name: str, least: float | int, *, inclusive: bool = False) -> None:
    refine(x.node)
    low = x.node.lower
    if bool((low < least).any() if inclusive else (low <= least).any()):
        raise RULES.unsupported(
            f"{name} of a value that may be {'below' if inclusive else 'at or below'} {least:g}",
            "It is not a real number there.",
        )


@RULES.register(torch.square, torch.Tensor.square)
def square(x: BoundTensor) -> BoundTensor:
    """The square."""
    return power(x, 2)


@RULES.register(torch.pow, torch.Tensor.pow, torch.Tensor.__pow__)
def power(x: BoundTensor, exponent: float | int | Tensor) -> BoundTensor:
    """A power: whole ones of anything, others of what is known to be positive."""
    if isinstance(exponent, BoundTensor) or not isinstance(x, BoundTensor):
        raise RULES.unsupported("pow with an exponent computed from the input", "A number is fine.")
    if isinstance(exponent, Tensor) and exponent.numel() != 1:
        raise RULES.unsupported("pow with several exponents", "One number is fine.")
    p = float(exponent)
    if p == 0.5:
        return sqrt(x)
    if p == -0.5:
        return rsqrt(x)
    if p < 0:
        return reciprocal(power(x, -p))
    if p != int(p):
        _need(x, "pow with a broken exponent", 0.0, inclusive=True)
        return apply(x, Curve("pow", lambda u: u**p, 0.0, _INF, right_power=p, least=0.0))
    degree = int(p)
    if degree in (0, 1):
        one = torch.ones_like(x.node.lower)
        return x.hull("pow", one, one, 0.0) if degree == 0 else x.affine("pow", lambda u: u)

    def bend(a: Tensor, b: Tensor) -> Tensor:
        return degree * (degree - 1) * torch.maximum(a.abs(), b.abs()) ** (degree - 2)

    even = degree % 2 == 0
    curve = Curve(
        "square" if degree == 2 else "pow", lambda u: u**degree,
        _INF if even else -_INF, _INF, degree, degree,
        kinks=(0.0,), bend=bend, least=0.0 if even else -_INF,
    )  # fmt: skip
    return apply(x, curve)


# Functions that need no more than a line: their spellings, limits and bends.
_PLAIN: list[tuple[tuple[Callable[..., Tensor], ...], float | int, float | int, Bend | None]] = [
    ((torch.erf, torch.Tensor.erf, torch.special.erf), -1.0, 1.0, constant_bend(0.97)),
    ((torch.erfc, torch.Tensor.erfc, torch.special.erfc), 2.0, 0.0, constant_bend(0.97)),
    ((torch.atan, torch.Tensor.atan, torch.arctan), -math.pi / 2, math.pi / 2, constant_bend(0.65)),
    ((torch.asinh, torch.Tensor.asinh), -_INF, _INF, None),
]


def _register(spellings: tuple[Callable[..., Tensor], ...], left: float | int, right: float | int,
              bend: Bend | None) -> None:  # fmt: skip
    name = str(getattr(spellings[0], "__name__", spellings[0]))
    powers = (0.0, 0.0) if name == "asinh" else (1.0, 1.0)

    @RULES.register(*spellings)
    def rule(x: BoundTensor) -> BoundTensor:
        function = spellings[0]
        curve = Curve(name, function, left, right, *powers, bend=bend, slack=SLACK)
        return apply(x, curve)


for _spellings, _left, _right, _bend in _PLAIN:
    _register(_spellings, _left, _right, _bend)
