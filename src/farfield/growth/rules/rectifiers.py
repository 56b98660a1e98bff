"""Functions of each entry that are lines between their kinks."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.growth.bound_tensor import RULES, BoundTensor, constant
from farfield.growth.curves import Curve, straight
from farfield.growth.rules.pointwise import apply

_INF = math.inf


@RULES.register(F.relu, torch.relu, torch.Tensor.relu)
def relu(x: BoundTensor) -> BoundTensor:
    """ReLU."""
    return apply(
        x,
        Curve(
            "relu",
            torch.relu,
            0.0,
            _INF,
            kinks=(0.0,),
            bend=straight,
            least=0.0,
            asymptotes=(0.0, 1.0, 0.0),
        ),
    )


@RULES.register(F.relu6)
def relu6(x: BoundTensor) -> BoundTensor:
    """ReLU6."""
    return hardtanh(x, 0.0, 6.0)


@RULES.register(F.leaky_relu, torch._C._nn.leaky_relu)
def leaky_relu(x: BoundTensor, negative_slope: float | int = 0.01) -> BoundTensor:
    """LeakyReLU."""
    return _two_slopes(x, torch.tensor(float(negative_slope), dtype=torch.float64), "leaky_relu")


@RULES.register(F.rrelu, torch.rrelu)
def rrelu(
    x: BoundTensor,
    lower: float | int = 1.0 / 8,
    upper: float | int = 1.0 / 3,
    training: bool = False,
) -> BoundTensor:
    """RReLU in eval mode: its mean slope."""
    if training:
        raise RULES.unsupported("rrelu in training mode", "Call model.eval() first.")
    return leaky_relu(x, (lower + upper) / 2)


@RULES.register(F.prelu, torch.prelu, torch.Tensor.prelu)
def prelu(x: BoundTensor, weight: Tensor) -> BoundTensor:
    """PReLU, with one slope or one for each channel."""
    slope = constant(weight)
    if slope.numel() > 1:
        slope = slope.reshape(1, -1, *(1,) * (x.ndim - 2))
    return _two_slopes(x, slope, "prelu")


def _two_slopes(x: BoundTensor, slope: Tensor, name: str) -> BoundTensor:
    slope = slope.expand(x.node.shape)
    limit = torch.where(slope > 0, -_INF, torch.where(slope < 0, _INF, 0.0))
    return apply(
        x,
        Curve(
            name, lambda u: torch.where(u > 0, u, slope * u), limit, _INF,
            kinks=(0.0,), bend=straight, asymptotes=(slope, 1.0, 0.0),
        ),
    )  # fmt: skip


@RULES.register(torch.abs, torch.Tensor.abs, torch.Tensor.__abs__, torch.absolute)
def absolute(x: BoundTensor) -> BoundTensor:
    """The absolute value."""
    return apply(
        x,
        Curve(
            "abs",
            torch.abs,
            _INF,
            _INF,
            kinks=(0.0,),
            bend=straight,
            least=0.0,
            asymptotes=(-1.0, 1.0, 0.0),
        ),
    )


@RULES.register(F.hardtanh, torch._C._nn.hardtanh)
def hardtanh(
    x: BoundTensor, min_val: float | int = -1.0, max_val: float | int = 1.0
) -> BoundTensor:
    """Cut off below and above."""
    return clamp(x, min_val, max_val)


@RULES.register(torch.clamp, torch.Tensor.clamp, torch.clip, torch.Tensor.clip)
def clamp(
    x: BoundTensor,
    min: float | int | Tensor | None = None,  # noqa: A002 - PyTorch's names
    max: float | int | Tensor | None = None,  # noqa: A002
) -> BoundTensor:
    """Cut off below and above."""
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        raise RULES.unsupported("clamp with tensors as limits", "Numbers have a rule.")
    low = -_INF if min is None else float(min)
    high = _INF if max is None else float(max)
    kinks = tuple(limit for limit in (low, high) if math.isfinite(limit))

    def value(u: Tensor) -> Tensor:
        return u.clamp(low, high)

    low, high = float(value(constant(-_INF))), float(value(constant(_INF)))
    return apply(
        x, Curve("clamp", value, low, high, kinks=kinks, bend=straight, least=low, most=high)
    )


@RULES.register(torch.clamp_min, torch.Tensor.clamp_min)
def clamp_min(x: BoundTensor, min: float | int | Tensor) -> BoundTensor:  # noqa: A002
    """Cut off below."""
    return clamp(x, min=min)


@RULES.register(torch.clamp_max, torch.Tensor.clamp_max)
def clamp_max(x: BoundTensor, max: float | int | Tensor) -> BoundTensor:  # noqa: A002
    """Cut off above."""
    return clamp(x, max=max)


@RULES.register(F.softshrink)
def softshrink(x: BoundTensor, lambd: float | int = 0.5) -> BoundTensor:
    """Softshrink."""
    value = functools.partial(F.softshrink, lambd=lambd)
    kinks = (-float(lambd), float(lambd))
    return apply(
        x,
        Curve(
            "softshrink",
            value,
            -_INF,
            _INF,
            kinks=kinks,
            bend=straight,
            asymptotes=(1.0, 1.0, abs(float(lambd))),
        ),
    )


@RULES.register(F.hardshrink, torch.hardshrink, torch.Tensor.hardshrink)
def hardshrink(x: BoundTensor, lambd: float | int = 0.5) -> BoundTensor:
    """Hardshrink, which jumps."""
    value = functools.partial(F.hardshrink, lambd=lambd)
    return apply(x, Curve("hardshrink", value, -_INF, _INF, kinks=(-float(lambd), float(lambd))))


@RULES.register(F.threshold)
def threshold(x: BoundTensor, threshold: float | int, value: float | int) -> BoundTensor:
    """The argument above the threshold, else a value: it may jump."""
    at, low = float(threshold), float(value)
    curve = Curve("threshold", lambda u: F.threshold(u, at, low), low, _INF, kinks=(at,))
    return apply(x, curve)


@RULES.register(torch.sign, torch.Tensor.sign, torch.sgn)
def sign(x: BoundTensor) -> BoundTensor:
    """The sign, which jumps."""
    return apply(x, Curve("sign", torch.sign, -1.0, 1.0, kinks=(0.0,)))


@RULES.register(torch.heaviside, torch.Tensor.heaviside)
def heaviside(x: BoundTensor, values: Tensor) -> BoundTensor:
    """The unit step, which jumps."""
    at = constant(values)
    return apply(x, Curve("heaviside", lambda u: torch.heaviside(u, at), 0.0, 1.0, kinks=(0.0,)))
