"""Intervals of real numbers in float64, rounded outwards.

Every computed end is moved outwards by more than the rounding of its computation can be: a sum of
n products is off by at most ``n u / (1 - n u)`` times the sum of their sizes, with u = 2^-53
(Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

UNIT = 2.0**-53
_LARGEST = torch.finfo(torch.float64).max


def rounding(terms: int) -> float:
    """A bound on the relative rounding of sums of so many products, with room for a few more."""
    return 4.0 * (terms + 8) * UNIT


def tidy(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Where a computation overflowed, say the least that is true."""
    lower = torch.where(lower.isnan(), -math.inf, lower).clamp(max=_LARGEST)
    upper = torch.where(upper.isnan(), math.inf, upper).clamp(min=-_LARGEST)
    return lower, upper


def largest(lower: Tensor, upper: Tensor) -> Tensor:
    """The largest size of a number in each interval."""
    return torch.maximum(lower.abs(), upper.abs())


def finite(x: Tensor) -> Tensor:
    """The numbers with 0 in place of the infinite ones."""
    return torch.where(x.isfinite(), x, 0.0)


def times(x: Tensor, y: Tensor) -> Tensor:
    """Products of ends, where 0 times infinity is 0: the other number is real, however large."""
    return torch.where((x == 0) | (y == 0), 0.0, x * y)


def product(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The interval of all products."""
    ends = torch.stack([times(x, y) for x in a for y in b])
    lower, upper = ends.amin(0), ends.amax(0)
    return tidy(lower - rounding(1) * lower.abs(), upper + rounding(1) * upper.abs())


def support(rows: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The largest value of each linear function on the box: (k, *shape) -> (k,)."""
    value = times(rows.clamp(min=0), upper) + times(rows.clamp(max=0), lower)
    return value.flatten(1).sum(1)
