"""Elementwise functions, with a dual activation each."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.closed import affine, closed_form
from farfield.infinite.duals.compose import composed
from farfield.infinite.duals.error_function import Erf
from farfield.infinite.duals.exponentials import Exponential
from farfield.infinite.duals.gelu import Gelu
from farfield.infinite.duals.halves import Halves
from farfield.infinite.duals.numeric import Numeric
from farfield.infinite.duals.rectified import Rectified, Step
from farfield.infinite.duals.waves import COSINE, SINE
from farfield.infinite.gram import total
from farfield.infinite.laws import Mixed, Pointwise, mixed
from farfield.infinite.limit_tensor import KEEP, RULES, LimitTensor
from farfield.infinite.rules.squares import squared


def apply(
    x: LimitTensor, function: Activation, exact: Callable[[Tensor], Tensor], name: str
) -> LimitTensor:
    """A function of each entry.

    Args:
        x: A function of Gaussian units.
        function: The dual activation.
        exact: The function itself.
        name: What it is called in messages.

    Returns:
        The law of the function's values.

    Raises:
        UnsupportedOperation: On units that are not Gaussian.
    """
    law = x.law
    if isinstance(law, Pointwise):
        # The base stays the very same object, so that functions of the same units are known to be.
        return x.with_law(Pointwise(law.base, composed(function, exact, law.function, name)))
    raise RULES.unsupported(
        f"{name} on units that are not Gaussian",
        "Its moments need the Gaussian law that a linear map or a norm on pre-activations gives; "
        "here the units went through a norm after a function, a product, a concatenation, or a "
        "sum with such units or with the output of a norm that has a trained gain.",
    )


@RULES.register(F.relu, torch.relu, torch.Tensor.relu)
def relu(x: LimitTensor) -> LimitTensor:
    """ReLU."""
    return apply(x, Rectified(0.0, 1.0), torch.relu, "relu")


@RULES.register(F.leaky_relu, torch._C._nn.leaky_relu)
def leaky_relu(x: LimitTensor, negative_slope: float | int = 0.01) -> LimitTensor:
    """LeakyReLU."""
    return apply(
        x,
        Rectified(float(negative_slope), 1.0),
        lambda u: F.leaky_relu(u, negative_slope),
        "leaky_relu",
    )


@RULES.register(F.prelu, torch.prelu, torch.Tensor.prelu, mark=KEEP)
def prelu(x: LimitTensor, weight: Tensor) -> LimitTensor:
    r"""PReLU, with the slope frozen, or trained and one for each unit.

    The gradient with respect to the slope of unit i is ``delta_i min(u_i, 0)``, with delta_i from
    the layers above. With a slope for each unit the products of these gradients at two inputs are
    summed over the units and converge: the tangent gains ``E[min(u, 0) min(v, 0)]``, as from
    LayerNorm's gains. The gradient of one slope that all units share is the sum itself, with
    random signs: it stays a random number of order 1, and so does what it adds to the kernel.

    Raises:
        UnsupportedOperation: A trained slope is shared, or the slopes differ between units.
    """
    x.reading.keep(weight, "prelu")
    slopes = weight.detach().flatten()
    if bool((slopes != slopes[0]).any()):
        raise RULES.unsupported("prelu with several slopes", "Units must have the same law.")
    active = leaky_relu(x, float(slopes[0]))
    if not weight.requires_grad:
        return active
    if len(slopes) == 1 or x.ndim != 2:
        raise RULES.unsupported(
            "prelu with a trained slope that units share",
            "Its gradient is a sum over the units with random signs, which stays random in the "
            "limit, so there is no tangent kernel; give each unit its own slope, "
            "nn.PReLU(num_parameters=width), or freeze it with requires_grad_(False).",
        )
    own = mixed(apply(x, Rectified(1.0, 0.0), lambda u: u.clamp(max=0.0), "prelu").law)
    law = mixed(active.law)
    tangent = total([law.tangent, own.gram.plain()])
    return x.with_law(replace(law, tangent=tangent))


@RULES.register(F.rrelu, torch.rrelu)
def rrelu(
    x: LimitTensor,
    lower: float | int = 1.0 / 8.0,
    upper: float | int = 1.0 / 3.0,
    training: bool = False,
) -> LimitTensor:
    """Randomised LeakyReLU, in eval mode: the slope is the mean of its bounds."""
    if training:
        raise RULES.unsupported("rrelu in training mode", "Call model.eval() first.")
    return leaky_relu(x, 0.5 * (lower + upper))


@RULES.register(torch.abs, torch.Tensor.abs, torch.Tensor.__abs__, torch.absolute)
def absolute(x: LimitTensor) -> LimitTensor:
    """The absolute value."""
    return apply(x, Rectified(-1.0, 1.0), torch.abs, "abs")


@RULES.register(torch.sign, torch.Tensor.sign, torch.sgn)
def sign(x: LimitTensor) -> LimitTensor:
    """The sign."""
    return apply(x, Step(-1.0, 1.0), torch.sign, "sign")


@RULES.register(torch.erf, torch.Tensor.erf, torch.special.erf)
def erf(x: LimitTensor) -> LimitTensor:
    """The error function."""
    return apply(x, Erf(), torch.erf, "erf")


@RULES.register(torch.sin, torch.Tensor.sin)
def sin(x: LimitTensor) -> LimitTensor:
    """The sine."""
    return apply(x, SINE, torch.sin, "sin")


@RULES.register(torch.cos, torch.Tensor.cos)
def cos(x: LimitTensor) -> LimitTensor:
    """The cosine."""
    return apply(x, COSINE, torch.cos, "cos")


@RULES.register(F.gelu, torch._C._nn.gelu)
def gelu(x: LimitTensor, *, approximate: str = "none") -> LimitTensor:
    """GELU: exact in closed form, its tanh approximation by quadrature."""
    if approximate == "none":
        return apply(x, Gelu(), F.gelu, "gelu")
    return by_quadrature(x, lambda u: F.gelu(u, approximate=approximate), (), "gelu")


def by_quadrature(
    x: LimitTensor,
    exact: Callable[[Tensor], Tensor],
    kinks: Collection[float],
    name: str,
) -> LimitTensor:
    """A function without a closed form."""
    return apply(x, Numeric(exact, kinks, name), exact, name)


@RULES.register(torch.exp, torch.Tensor.exp)
def exp(x: LimitTensor) -> LimitTensor:
    """The exponential: of ``a + b u`` and of ``a - c u^2`` in closed form."""
    return apply(x, Exponential(), torch.exp, "exp")


@RULES.register(torch.exp2, torch.Tensor.exp2)
def exp2(x: LimitTensor) -> LimitTensor:
    """``2^u``."""
    return power_of(x, 2.0)


@RULES.register(torch.Tensor.__rpow__)
def power_of(x: LimitTensor, base: float | int) -> LimitTensor:
    """``base^u = exp(log(base) u)``."""
    if not base > 0:
        raise RULES.unsupported(f"powers of {base}", "Those of positive numbers have a rule.")
    law = x.law
    if isinstance(law, Pointwise):
        x = x.with_law(Pointwise(law.base, affine(law.function, math.log(base), 0.0)))
    return exp(x)


@RULES.register(torch.pow, torch.Tensor.pow, torch.Tensor.__pow__)
def power(x: LimitTensor, exponent: float | int | Tensor) -> LimitTensor:
    """A whole, non-negative power, such as ReLU's square."""
    if isinstance(exponent, Tensor) or exponent != int(exponent) or exponent < 0:
        raise RULES.unsupported(
            f"pow with the exponent {exponent}", "Whole numbers from 0 have a rule."
        )
    degree = int(exponent)
    if degree == 2 and isinstance(x.law, Mixed):
        return squared(x, x.law)
    function = closed_form(Halves.power(degree))
    exact = functools.partial(torch.pow, exponent=degree)
    if function is None:
        return by_quadrature(x, exact, (), "pow")
    return apply(x, function, exact, "pow")


@RULES.register(torch.square, torch.Tensor.square)
def square(x: LimitTensor) -> LimitTensor:
    """The square."""
    return power(x, 2)


@RULES.register(torch.heaviside, torch.Tensor.heaviside)
def heaviside(x: LimitTensor, values: Tensor) -> LimitTensor:
    """The unit step; what it is at 0 does not matter."""
    return apply(x, Step(0.0, 1.0), lambda u: torch.heaviside(u, values.to(u)), "heaviside")


@RULES.register(torch.clamp, torch.Tensor.clamp, torch.clip, torch.Tensor.clip)
def clamp(
    x: LimitTensor,
    min: float | int | None = None,  # noqa: A002 - PyTorch's names
    max: float | int | None = None,  # noqa: A002
) -> LimitTensor:
    """Cut off below and above; at 0 on one side it is a ReLU."""
    exact = functools.partial(torch.clamp, min=min, max=max)
    if (min, max) == (0, None):
        return apply(x, Rectified(0.0, 1.0), exact, "clamp")
    if (min, max) == (None, 0):
        return apply(x, Rectified(1.0, 0.0), exact, "clamp")
    kinks = [float(bound) for bound in (min, max) if bound is not None]
    return by_quadrature(x, exact, kinks, "clamp")


@RULES.register(torch.clamp_min, torch.Tensor.clamp_min)
def clamp_min(x: LimitTensor, min: float | int) -> LimitTensor:  # noqa: A002
    """Cut off below."""
    return clamp(x, min=min)


@RULES.register(torch.clamp_max, torch.Tensor.clamp_max)
def clamp_max(x: LimitTensor, max: float | int) -> LimitTensor:  # noqa: A002
    """Cut off above."""
    return clamp(x, max=max)


# Functions without a number to choose, by their spellings.
_SMOOTH: list[tuple[Callable[..., Tensor], ...]] = [
    (torch.tanh, F.tanh, torch.Tensor.tanh),
    (torch.sigmoid, F.sigmoid, torch.Tensor.sigmoid, torch.special.expit),
    (F.silu,),
    (F.mish,),
    (F.logsigmoid,),
    (F.tanhshrink,),
    (torch.atan, torch.Tensor.atan, torch.arctan),
    (torch.sinh, torch.Tensor.sinh),
    (torch.cosh, torch.Tensor.cosh),
    (torch.asinh, torch.Tensor.asinh),
    (torch.expm1, torch.Tensor.expm1),
    (torch.log1p, torch.Tensor.log1p),
    (torch.log, torch.Tensor.log),
    (torch.sqrt, torch.Tensor.sqrt),
    (torch.rsqrt, torch.Tensor.rsqrt),
    (torch.reciprocal, torch.Tensor.reciprocal),
    (torch.erfc, torch.Tensor.erfc, torch.special.erfc),
    (torch.special.ndtr,),
    (torch.sinc, torch.Tensor.sinc),
]

# With options, and where they bend.
_BENT: list[tuple[tuple[Callable[..., Tensor], ...], Callable[..., tuple[float, ...]]]] = [
    ((F.elu,), lambda **options: (0.0,)),
    ((F.selu, torch.selu), lambda **options: (0.0,)),
    ((F.celu, torch.celu), lambda **options: (0.0,)),
    ((F.softsign,), lambda **options: (0.0,)),
    ((F.hardswish, F.hardsigmoid), lambda **options: (-3.0, 3.0)),
    ((F.relu6,), lambda **options: (0.0, 6.0)),
    (
        (F.hardtanh,),
        lambda min_val=-1.0, max_val=1.0, **options: (float(min_val), float(max_val)),
    ),
    ((F.hardshrink, F.softshrink), lambda lambd=0.5, **options: (-float(lambd), float(lambd))),
    ((F.threshold, torch.threshold), lambda threshold, value=0.0: (float(threshold),)),
    (
        (F.softplus,),
        # PyTorch goes over to the identity where beta u is large, with a jump of exp(-threshold).
        lambda beta=1.0, threshold=20.0, **options: (float(threshold) / float(beta),),
    ),
]


def _register_smooth(spellings: tuple[Callable[..., Tensor], ...]) -> None:
    exact = spellings[0]
    name = str(getattr(exact, "__name__", exact))

    @RULES.register(*spellings)
    def rule(x: LimitTensor) -> LimitTensor:
        return by_quadrature(x, exact, (), name)


def _register_bent(exact: Callable[..., Tensor], kinks: Callable[..., tuple[float, ...]]) -> None:
    name = str(getattr(exact, "__name__", exact))
    signature = inspect.signature(kinks)

    @RULES.register(exact)
    def rule(x: LimitTensor, *args: object, **options: object) -> LimitTensor:
        names = [key for key, value in signature.parameters.items() if key != "options"]
        given = {**dict(zip(names, args, strict=False)), **options}
        return by_quadrature(x, lambda u: exact(u, *args, **options), kinks(**given), name)


for _spellings in _SMOOTH:
    _register_smooth(_spellings)
for _functions, _kinks in _BENT:
    for _function in _functions:
        _register_bent(_function, _kinks)
