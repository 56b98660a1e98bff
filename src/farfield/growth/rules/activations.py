"""Smooth activations, and those with one kink between smooth parts."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.growth.bound_tensor import RULES, BoundTensor
from farfield.growth.curves import Bend, Curve, constant_bend, fading, straight
from farfield.growth.rules.pointwise import SLACK, apply, smooth

_INF = math.inf


def sigmoid_curve() -> Curve:
    """The logistic function: |s''| <= exp(-|y|), and at most 1 / (6 sqrt 3)."""
    bend = fading(0.0963, lambda m: torch.exp(-m))
    return smooth(torch.sigmoid, "sigmoid", 0.0, 1.0, bend, least=0.0, most=1.0)


@RULES.register(torch.sigmoid, F.sigmoid, torch.Tensor.sigmoid, torch.special.expit)
def sigmoid(x: BoundTensor) -> BoundTensor:
    """The logistic function."""
    return apply(x, sigmoid_curve())


@RULES.register(torch.tanh, F.tanh, torch.Tensor.tanh)
def tanh(x: BoundTensor) -> BoundTensor:
    """The hyperbolic tangent: |tanh''| <= 8 exp(-2 |y|), and at most 0.77."""
    bend = fading(0.77, lambda m: 8.0 * torch.exp(-2.0 * m))
    return apply(x, smooth(torch.tanh, "tanh", -1.0, 1.0, bend, least=-1.0, most=1.0))


@RULES.register(F.tanhshrink)
def tanhshrink(x: BoundTensor) -> BoundTensor:
    """The rest ``y - tanh(y)``."""
    bend = fading(0.77, lambda m: 8.0 * torch.exp(-2.0 * m))
    return apply(
        x, smooth(F.tanhshrink, "tanhshrink", -_INF, _INF, bend, asymptotes=(1.0, 1.0, 1.0))
    )


@RULES.register(F.gelu, torch._C._nn.gelu)
def gelu(x: BoundTensor, *, approximate: str = "none") -> BoundTensor:
    """GELU: |phi''| = |2 - y^2| times the Gaussian density, at most 0.798."""
    if approximate == "none":
        bend = fading(0.798, lambda m: (2.0 + m * m) * torch.exp(-0.5 * m * m) * 0.3989423)
        turn = (-0.7517915964716756,)
    else:
        bend, turn = constant_bend(0.81), (-0.7524614066345823,)
    value = functools.partial(F.gelu, approximate=approximate)
    return apply(
        x, smooth(value, "gelu", 0.0, _INF, bend, turns=turn, asymptotes=(0.0, 1.0, 0.171))
    )


@RULES.register(F.silu)
def silu(x: BoundTensor) -> BoundTensor:
    """SiLU: |phi''| <= (2 + |y|) exp(-|y|), and at most 1/2."""
    bend = fading(0.5, lambda m: (2.0 + m) * torch.exp(-m))
    return apply(
        x,
        smooth(
            F.silu,
            "silu",
            0.0,
            _INF,
            bend,
            turns=(-1.2784645427610738,),
            asymptotes=(0.0, 1.0, 0.279),
        ),
    )


@RULES.register(F.mish)
def mish(x: BoundTensor) -> BoundTensor:
    """Mish."""
    return apply(
        x,
        smooth(
            F.mish,
            "mish",
            0.0,
            _INF,
            constant_bend(0.65),
            turns=(-1.1924312145,),
            asymptotes=(0.0, 1.0, 0.309),
        ),
    )


@RULES.register(F.softplus)
def softplus(x: BoundTensor, beta: float | int = 1.0, threshold: float | int = 20.0) -> BoundTensor:
    """Softplus: |phi''| <= beta min(1/4, exp(-beta |y|)).

    PyTorch goes over to the identity at threshold / beta, with a jump of at most
    log(1 + exp(-threshold)) / beta.
    """
    if beta <= 0 or threshold < 0:
        raise RULES.unsupported(
            f"softplus with beta={beta} and threshold={threshold}",
            "A positive beta and a threshold of at least 0 have a rule.",
        )
    b, jump = float(beta), math.log1p(math.exp(-float(threshold))) / float(beta)
    curve = Curve(
        "softplus", functools.partial(F.softplus, beta=beta, threshold=threshold), 0.0, _INF,
        kinks=(float(threshold) / b,), bend=fading(b / 4, lambda m: b * torch.exp(-b * m)),
        slack=SLACK / b, jump=jump, least=0.0, asymptotes=(0.0, 1.0, 0.6932 / b),
    )  # fmt: skip
    return apply(x, curve)


@RULES.register(F.logsigmoid)
def logsigmoid(x: BoundTensor) -> BoundTensor:
    """The logarithm of the logistic function."""
    bend = fading(0.25, lambda m: torch.exp(-m))
    return apply(
        x,
        smooth(
            F.logsigmoid, "logsigmoid", -_INF, 0.0, bend, most=0.0, asymptotes=(1.0, 0.0, 0.6932)
        ),
    )


def _exponential_below(alpha: float | int, rate: float | int, scale: float | int) -> Bend:
    """The bend of ``scale alpha (exp(rate y) - 1)`` below 0 and of a line above."""
    size = abs(scale * alpha) * rate * rate

    def bend(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(a >= 0, 0.0, size * torch.exp(rate * b.clamp(max=0.0)))

    return bend


@RULES.register(F.elu, torch._C._nn.elu)
def elu(x: BoundTensor, alpha: float | int = 1.0) -> BoundTensor:
    """ELU."""
    a = float(alpha)
    curve = Curve(
        "elu", functools.partial(F.elu, alpha=a), -a, _INF, kinks=(0.0,),
        bend=_exponential_below(a, 1.0, 1.0), slack=SLACK * max(1.0, abs(a)),
        asymptotes=(0.0, 1.0, abs(a)),
    )  # fmt: skip
    return apply(x, curve)


@RULES.register(F.celu, torch.celu)
def celu(x: BoundTensor, alpha: float | int = 1.0) -> BoundTensor:
    """CELU."""
    a = float(alpha)
    if a <= 0:
        raise RULES.unsupported(f"celu with alpha {a}", "A positive alpha has a rule.")
    curve = Curve(
        "celu", functools.partial(F.celu, alpha=a), -a, _INF, kinks=(0.0,),
        bend=_exponential_below(a, 1.0 / a, 1.0), slack=SLACK * max(1.0, a),
        asymptotes=(0.0, 1.0, a),
    )  # fmt: skip
    return apply(x, curve)


@RULES.register(F.selu, torch.selu)
def selu(x: BoundTensor) -> BoundTensor:
    """SELU."""
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    curve = Curve(
        "selu", F.selu, -scale * alpha, _INF, kinks=(0.0,),
        bend=_exponential_below(alpha, 1.0, scale), slack=SLACK, left_power=0.0,
        asymptotes=(0.0, scale, scale * alpha),
    )  # fmt: skip
    return apply(x, curve)


@RULES.register(F.softsign)
def softsign(x: BoundTensor) -> BoundTensor:
    """The quotient ``y / (1 + |y|)``: |phi''| = 2 / (1 + |y|)^3."""
    bend = fading(2.0, lambda m: 2.0 / (1.0 + m) ** 3)
    curve = smooth(F.softsign, "softsign", -1.0, 1.0, bend, kinks=(0.0,), least=-1.0, most=1.0)
    return apply(x, curve)


@RULES.register(F.hardsigmoid)
def hardsigmoid(x: BoundTensor) -> BoundTensor:
    """Hardsigmoid."""
    curve = smooth(
        F.hardsigmoid, "hardsigmoid", 0.0, 1.0, straight, kinks=(-3.0, 3.0), least=0.0, most=1.0
    )
    return apply(x, curve)


@RULES.register(F.hardswish)
def hardswish(x: BoundTensor) -> BoundTensor:
    """Hardswish: a parabola of bend 1/3 between its kinks."""

    def bend(a: Tensor, b: Tensor) -> Tensor:
        return torch.where((b <= -3.0) | (a >= 3.0), 0.0, 1.0 / 3.0)

    curve = smooth(
        F.hardswish,
        "hardswish",
        0.0,
        _INF,
        bend,
        kinks=(-3.0, 3.0),
        turns=(-1.5,),
        asymptotes=(0.0, 1.0, 0.3751),
    )
    return apply(x, curve)
