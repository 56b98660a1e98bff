"""Nested quadrature rules on (0, 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rule:
    """Nodes and weights, and those of the rule that uses every second node.

    Attributes:
        x: Nodes in (0, 1).
        rest: ``1 - x``, accurate where it is small.
        fine: Weights.
        coarse: Weights of the nested rule, zero at every second node.
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
def clenshaw_curtis(intervals: int) -> Rule:
    """Clenshaw and Curtis's rule with ``intervals + 1`` nodes (a multiple of 4 intervals).

    For functions that are smooth at the scale of the interval it needs far fewer nodes.

    Source: Clenshaw and Curtis, "A Method for Numerical Integration on an Automatic Computer"
    (1960).
    """
    angle = torch.arange(intervals + 1, dtype=torch.float64) * (math.pi / intervals)
    coarse = torch.zeros(intervals + 1, dtype=torch.float64)
    coarse[::2] = _cosine_weights(intervals // 2)
    return Rule(
        torch.sin(0.5 * angle).square(),
        torch.cos(0.5 * angle).square(),
        _cosine_weights(intervals),
        coarse,
    )


def _cosine_weights(intervals: int) -> Tensor:
    """Weights on (0, 1) at cos(j pi / intervals): the integrals of the interpolating cosines."""
    j = torch.arange(intervals + 1, dtype=torch.float64)
    k = torch.arange(0, intervals + 1, 2, dtype=torch.float64)
    integrals = 1.0 / (1.0 - k * k)  # half of those over (-1, 1)
    ends = torch.ones_like(k)
    ends[0] = 0.5
    if intervals % 2 == 0:
        ends[-1] = 0.5
    weights = (ends * integrals * torch.cos(torch.outer(j, k) * (math.pi / intervals))).sum(1)
    weights *= 2.0 / intervals
    weights[0] *= 0.5
    weights[-1] *= 0.5
    return weights
