"""Functions of each entry."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from farfield.growth.bound_tensor import RULES, BoundTensor, constant
from farfield.growth.curves import Bend, Curve, constant_bend, fading, straight
from farfield.growth.dual import refine
from farfield.growth.graph import Pointwise

_INF = math.inf
_SLACK = 2e-15  # absolute error of a smooth function near its zeros


def apply(x: BoundTensor, curve: Curve) -> BoundTensor:
    """A function of each entry.

    The interval of its argument is tightened first: everything above depends on it.
    """
    node = x.node
    refine(node)
    lower, upper = curve.interval(node.lower, node.upper)
    degree = curve.degree(node.lower, node.upper, node.degree)
    new = x.reading.add(curve.name, lower, upper, degree, Pointwise(curve), [node])
    return BoundTensor(new, x.reading)


def smooth(
    function: Callable[[Tensor], Tensor],
    name: str,
    left: float | int,
    right: float | int,
    bend: Bend | None,
    **options: float | int | tuple[float | int, ...] | tuple[float | int, float | int, float | int],
) -> Curve:
    """A curve whose values are rounded near its zeros."""
    return Curve(name, function, left, right, bend=bend, slack=_SLACK, **options)  # type: ignore[arg-type]


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
    b, jump = float(beta), math.log1p(math.exp(-float(threshold))) / float(beta)
    curve = Curve(
        "softplus", functools.partial(F.softplus, beta=beta, threshold=threshold), 0.0, _INF,
        kinks=(float(threshold) / b,), bend=fading(b / 4, lambda m: b * torch.exp(-b * m)),
        slack=_SLACK / b, jump=jump, least=0.0, asymptotes=(0.0, 1.0, 0.6932 / b),
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
        bend=_exponential_below(a, 1.0, 1.0), slack=_SLACK * max(1.0, abs(a)),
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
        bend=_exponential_below(a, 1.0 / a, 1.0), slack=_SLACK * max(1.0, a),
        asymptotes=(0.0, 1.0, a),
    )  # fmt: skip
    return apply(x, curve)


@RULES.register(F.selu, torch.selu)
def selu(x: BoundTensor) -> BoundTensor:
    """SELU."""
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    curve = Curve(
        "selu", F.selu, -scale * alpha, _INF, kinks=(0.0,),
        bend=_exponential_below(alpha, 1.0, scale), slack=_SLACK, left_power=0.0,
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
              slack=_SLACK, least=-1.0),
    )  # fmt: skip


@RULES.register(torch.log, torch.Tensor.log)
def log(x: BoundTensor) -> BoundTensor:
    """The logarithm, of what is known to be positive."""
    _need(x, "log", 0.0)
    return apply(x, Curve("log", torch.log, -_INF, _INF, right_power=0.0, slack=_SLACK))


@RULES.register(torch.log1p, torch.Tensor.log1p)
def log1p(x: BoundTensor) -> BoundTensor:
    """log(1 + y), of what is known to be above -1."""
    _need(x, "log1p", -1.0)
    return apply(x, Curve("log1p", torch.log1p, -_INF, _INF, right_power=0.0, slack=_SLACK))


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
        return x.hull("pow", one, one, 0.0) if degree == 0 else x

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
        curve = Curve(name, function, left, right, *powers, bend=bend, slack=_SLACK)
        return apply(x, curve)


for _spellings, _left, _right, _bend in _PLAIN:
    _register(_spellings, _left, _right, _bend)
