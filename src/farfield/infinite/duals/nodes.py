"""Quadrature rules on (0, 1) that estimate their own error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rule:
    """Nodes and weights, and those of a coarser rule on the same nodes.

    Attributes:
        x: Nodes in (0, 1).
        rest: ``1 - x``, accurate where it is small.
        fine: Weights.
        coarse: Weights of a rule whose result shows the error by how much it differs.
    """

    x: Tensor
    rest: Tensor
    fine: Tensor
    coarse: Tensor

    def to(self, device: torch.device) -> Rule:
        """The rule on a device."""
        return Rule(*(part.to(device) for part in (self.x, self.rest, self.fine, self.coarse)))


@cache
def tanh_sinh(half: int) -> Rule:
    """The double exponential rule with ``2 half + 1`` nodes.

    Its nodes crowd at the ends so much that layers there, or singularities, do not matter.

    Source: Takahasi and Mori, "Double Exponential Formulas for Numerical Integration" (1974).
    """
    reach = 3.15  # the outermost weights are below 1e-16
    step = reach / half
    t = torch.arange(-half, half + 1, dtype=torch.float64) * step
    stretched = math.pi * torch.sinh(t)
    x, rest = torch.sigmoid(stretched), torch.sigmoid(-stretched)
    fine = step * math.pi * torch.cosh(t) * x * rest
    even = (torch.arange(2 * half + 1) - half) % 2 == 0
    return Rule(x, rest, fine, torch.where(even, 2.0 * fine, 0.0))


@cache
def gauss(count: int) -> Rule:
    """The Gauss-Legendre rule with ``count`` nodes.

    For functions that are smooth at the scale of the interval it needs far fewer nodes. Its
    coarse rule is not nested: it differs from the fine one by the sum of the function's last two
    orthonormal Legendre coefficients that the nodes can tell, those of degrees count - 2 and
    count - 1. The fine rule itself is exact up to the degree 2 count - 1.
    """
    x, weights = np.polynomial.legendre.leggauss(count)
    last = np.polynomial.legendre.legvander(x, count - 1)[:, count - 2 :]
    sizes = np.sqrt(2.0 * np.arange(count - 2, count) + 1.0)
    fine = 0.5 * weights
    rest = torch.from_numpy(0.5 * (1.0 - x))
    return Rule(
        rest.flip(0), rest, torch.from_numpy(fine), torch.from_numpy(fine * (1.0 - last @ sizes))
    )


@cache
def gauss_hermite(count: int) -> Rule:
    """The Gauss rule for a standard normal variable; its x are not between 0 and 1.

    As in :func:`gauss`, the coarse rule differs by the last two orthonormal coefficients.
    """
    x, weights = np.polynomial.hermite_e.hermegauss(count)
    fine = weights / weights.sum()
    last = np.polynomial.hermite_e.hermevander(x, count - 1)[:, count - 2 :]
    sizes = np.array([math.factorial(count - 2), math.factorial(count - 1)], dtype=float) ** -0.5
    nodes = torch.from_numpy(x)
    return Rule(
        nodes, 1.0 - nodes, torch.from_numpy(fine), torch.from_numpy(fine * (1.0 - last @ sizes))
    )
