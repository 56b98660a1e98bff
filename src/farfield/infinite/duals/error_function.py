r"""``phi(u) = erf(u)``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import RowLaw, Smooth, positive
from farfield.infinite.duals.shrunk import Shrunk
from farfield.infinite.safe import hypotenuse

_WIDTH = math.sqrt(2.0)
_TINY = 1e-9  # below this erf is linear to the last digit, and squares of r underflow soon


@dataclass(frozen=True)
class Erf(Smooth):
    r"""``E[erf(u) erf(v)] = (2/pi) asin(2 K12 / sqrt((1 + 2 K11)(1 + 2 K22)))``.

    Source: Williams, "Computing with Infinite Networks" (1997), equation 11.
    """

    odd = True

    def value(self, u: Tensor) -> Tensor:
        """erf(u)."""
        return torch.erf(u)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[erf(u)^2])``, with asin(s) as an arctangent that keeps its digits near 1."""
        tiny = r < _TINY
        double = torch.where(tiny, 1.0, 2.0 * r)
        angle = torch.atan(0.5 * double * (double / hypotenuse(torch.ones_like(r), double)))
        return torch.where(tiny, 2.0 / math.sqrt(math.pi) * r, (2.0 / math.pi * angle).sqrt())

    def mean(self, r: Tensor) -> Tensor:
        """Zero: erf is odd."""
        return torch.zeros_like(r)

    def second(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[erf(u) erf(v)]`` over the roots."""
        pair, left, right = _seen(law, angle), positive(law.root.left), positive(law.root.right)
        arc = torch.atan2(pair.sine, pair.cofactor)
        tiny = (pair.r1 < _TINY) & (pair.r2 < _TINY)
        linear = (4.0 / math.pi) * (pair.r1 / left) * (pair.r2 / right) * angle.cosine
        return torch.where(tiny, linear, (2.0 / math.pi) * (arc / left) / right)

    def second_slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``(4/pi) / sqrt((1 + 2 K11)(1 + 2 K22) - 4 K12^2)``."""
        pair = _seen(law, angle)
        return (4.0 / math.pi) * pair.q1 * pair.q2 / pair.cofactor

    def second_gain(self, law: RowLaw, angle: Angle) -> Tensor:
        r"""``(4/pi) E[u v exp(-u^2 - v^2)]`` over the gain roots.

        The weight makes (u, v) Gaussian with covariance K12 / ((1 + 2 K11)(1 + 2 K22) - 4 K12^2).
        """
        pair = _seen(law, angle)
        left, right = positive(law.gain_root.left), positive(law.gain_root.right)
        ratio = pair.q1 * pair.q2 / pair.cofactor
        weighed = angle.cosine * (pair.r1 * ratio / left) * (pair.r2 * ratio / right) * ratio
        return (4.0 / math.pi) * weighed

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2]) = sqrt(4 / (pi sqrt(1 + 4 r^2)))``."""
        return 2.0 / math.sqrt(math.pi) * hypotenuse(torch.ones_like(r), 2.0 * r).rsqrt()

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2]) = sqrt(4 / pi) r (1 + 4 r^2)^(-3/4)``."""
        narrow = hypotenuse(torch.ones_like(r), 2.0 * r).rsqrt()
        return 2.0 / math.sqrt(math.pi) * (r * narrow) * narrow * narrow


def _seen(law: RowLaw, angle: Angle) -> Shrunk:
    return Shrunk.of(law.r, angle, _WIDTH)
