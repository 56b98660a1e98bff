"""Elementwise functions, with a dual activation each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.error_function import Erf
from farfield.infinite.duals.rectified import Rectified, Step
from farfield.infinite.laws import Data, Pointwise, gaussian_of
from farfield.infinite.limit_tensor import RULES, LimitTensor


def apply(
    x: LimitTensor, function: Activation, exact: Callable[[Tensor], Tensor], name: str
) -> LimitTensor:
    """A function of each entry.

    Args:
        x: The raw input, on which the function simply runs, or Gaussian units.
        function: The dual activation.
        exact: The function itself.
        name: What it is called in messages.

    Returns:
        The law of the function's values.

    Raises:
        UnsupportedOperation: On units that are not Gaussian.
    """
    if isinstance(x.law, Data):
        if x.law.tangent is not None:
            raise RULES.unsupported(
                f"{name} on the raw input behind a norm with trained gain or bias",
                "Its parameters belong to single features, of which there are few.",
            )
        return x.with_law(Data(exact(x.law.x1), exact(x.law.x2)))
    base = gaussian_of(x.law)
    if base is None:
        raise RULES.unsupported(
            f"{name} on units that are not Gaussian",
            "Its moments need the Gaussian law that a linear map or a norm on pre-activations "
            "gives; here the units went through another function, a product, a concatenation or "
            "the sum with a norm's output.",
        )
    return x.with_law(Pointwise(base, function))


@RULES.register(F.relu, torch.relu, torch.Tensor.relu)
def relu(x: LimitTensor) -> LimitTensor:
    """ReLU."""
    return apply(x, Rectified(0.0, 1.0), torch.relu, "relu")


@RULES.register(F.leaky_relu, torch._C._nn.leaky_relu)
def leaky_relu(x: LimitTensor, negative_slope: float = 0.01) -> LimitTensor:
    """LeakyReLU."""
    return apply(
        x,
        Rectified(float(negative_slope), 1.0),
        lambda u: F.leaky_relu(u, negative_slope),
        "leaky_relu",
    )


@RULES.register(F.prelu, torch.prelu, torch.Tensor.prelu)
def prelu(x: LimitTensor, weight: Tensor) -> LimitTensor:
    """PReLU with a frozen slope.

    Raises:
        UnsupportedOperation: The slope is trained, or differs between units.
    """
    x.reading.use(weight, "prelu")
    if weight.requires_grad:
        raise RULES.unsupported(
            "prelu with a trained slope",
            "The gradient of a slope that all units share stays random in the limit, so there is "
            "no tangent kernel; freeze it with requires_grad_(False).",
        )
    slopes = weight.detach().flatten()
    if bool((slopes != slopes[0]).any()):
        raise RULES.unsupported("prelu with several slopes", "Units must have the same law.")
    return leaky_relu(x, float(slopes[0]))


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
