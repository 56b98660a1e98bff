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
def fejer(intervals: int) -> Rule:
    """Fejer's second rule with ``intervals - 1`` nodes, an even number of intervals.

    For functions that are smooth at the scale of the interval it needs far fewer nodes. The ends
    are no nodes: there a slope may jump, and its value be anything.

    Source: Waldvogel, "Fast Construction of the Fejer and Clenshaw-Curtis Quadrature Rules"
    (2006), equation 3.
    """
    angle = _angles(intervals)
    coarse = torch.zeros_like(angle)
    coarse[1::2] = _fejer_weights(intervals // 2)
    return Rule(
        torch.sin(0.5 * angle).square(),
        torch.cos(0.5 * angle).square(),
        _fejer_weights(intervals),
        coarse,
    )


def _angles(intervals: int) -> Tensor:
    return torch.arange(1, intervals, dtype=torch.float64) * (math.pi / intervals)


def _fejer_weights(intervals: int) -> Tensor:
    angle = _angles(intervals)
    odd = torch.arange(1, intervals, 2, dtype=torch.float64)
    waves = (torch.sin(torch.outer(angle, odd)) / odd).sum(1)
    return 2.0 / intervals * torch.sin(angle) * waves
