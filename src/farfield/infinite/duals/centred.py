"""Functions without their value at zero: what varies of an activation at tiny pre-activations."""

from __future__ import annotations

import torch
from torch import Tensor

from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.closed import affine, closed_form
from farfield.infinite.duals.nodes import gauss
from farfield.infinite.duals.numeric import Numeric
from farfield.infinite.pairs import Rows

_CANCELS = 1e-3  # what a root may exceed its mean by, relatively, before three digits are lost
_NEAR = 1e-2  # up to here phi(u) - phi(0) is the integral of the slope
_NODES = gauss(20)
_ROUNDED = 4e-16  # relative: a number that is -phi(0) but for rounding
_TINY = 1e-300  # what a function does between 0 and here is a jump


def cancels(root: Rows, mean: Rows) -> bool:
    """Whether ``root^2 - mean^2`` loses digits: a function that is nearly constant."""
    return any(
        bool(((size - mean.abs() < _CANCELS * size) & (size > 0)).any())
        for size, mean in root.sides(mean)
    )


def plus(function: Activation, number: float) -> Activation:
    """``phi(u) + number``; without cancellation where that is 0 at 0, as in a shifted softplus."""
    if isinstance(function, Numeric):
        at_zero = float(function.value(torch.zeros((), dtype=torch.float64)))
        if number and abs(at_zero + number) <= _ROUNDED * abs(number):
            return centred(function)
    return affine(function, 1.0, number)


def centred(function: Activation) -> Activation:
    """``phi(u) - phi(0)``, to full relative accuracy however small u is.

    Args:
        function: phi.

    Returns:
        A function with the same covariances and hardly any mean where u is small.
    """
    zero = torch.zeros((), dtype=torch.float64)
    at_zero = float(function.value(zero))
    if function.halves is not None:
        return closed_form(function.halves.affine(1.0, -at_zero)) or function
    above, below = (float(function.value(zero + side * _TINY)) - at_zero for side in (1, -1))
    nearest = min((abs(kink) for kink in function.kinks if kink), default=1.0)

    def value(u: Tensor) -> Tensor:
        near = u.abs() < min(_NEAR, 0.5 * nearest)
        if not bool(near.any()):
            return function.value(u) - at_zero
        short = torch.where(near, u, 0.0)
        nodes = _NODES.to(u.device)
        slopes = _slope(function, short[..., None] * nodes.x.to(u.dtype))
        integral = short * (slopes * nodes.fine.to(u.dtype)).sum(-1)
        jump = torch.where(u > 0, above, torch.where(u < 0, below, 0.0))
        return torch.where(near, integral + jump, function.value(u) - at_zero)

    return Numeric(value, function.kinks, "a centred activation")


def _slope(function: Activation, u: Tensor) -> Tensor:
    with torch.enable_grad():
        nodes = u if u.requires_grad else u.detach().requires_grad_()
        values = function.value(nodes)
        (slope,) = torch.autograd.grad(values.sum(), nodes, create_graph=u.requires_grad)
    return slope
