r"""``phi(u) = erf(u)``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite.duals.base import Smooth
from farfield.infinite.gram import Gram, hypotenuse


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
        """``sqrt(E[erf(u)^2])``; asin(s) as an arctangent, which keeps its digits near 1."""
        double = 2.0 * r
        # asin(2 r^2 / (1 + 2 r^2)) = atan(2 r^2 / sqrt(1 + 4 r^2)), and sqrt(f(r^2)) of a tiny
        # r is r * sqrt(f(r^2) / r^2): r^2 itself would underflow.
        small = r < 1e-9
        safe = torch.where(small, 1.0, double)
        angle = torch.atan(0.5 * safe * (safe / hypotenuse(torch.ones_like(safe), safe)))
        return torch.where(small, double / math.sqrt(math.pi), (2.0 / math.pi * angle).sqrt())

    def mean(self, r: Tensor) -> Tensor:
        """Zero: erf is odd."""
        return torch.zeros_like(r)

    def second(self, left: Tensor, right: Tensor, pair: Gram) -> Tensor:
        """``E[erf(u) erf(v)] / (left * right)``."""
        _, sine, cofactor = _widened(pair)
        angle = torch.atan2(sine, cofactor)
        # Of tiny rows the sine underflows; asin(s) = s there, and s / (left right) does not.
        r1, r2 = pair.left[..., :, None], pair.right[..., None, :]
        tiny = (r1 < 1e-9) & (r2 < 1e-9)
        linear = (4.0 / math.pi) * (r1 / left) * (r2 / right) * pair.cosine
        return torch.where(tiny, linear, (2.0 / math.pi) * (angle / left) / right)

    def second_slope(self, pair: Gram) -> Tensor:
        """``(4/pi) / sqrt((1 + 2 K11)(1 + 2 K22) - 4 K12^2)``."""
        shrink, _, cofactor = _widened(pair)
        return (4.0 / math.pi) * shrink / cofactor

    def second_gain(self, left: Tensor, right: Tensor, pair: Gram) -> Tensor:
        r"""``(4/pi) E[u v exp(-u^2 - v^2)] / (left * right)``.

        The weight makes (u, v) Gaussian with covariance K12 / ((1 + 2 K11)(1 + 2 K22) - 4 K12^2).
        """
        shrink, _, cofactor = _widened(pair)
        ratio = shrink / cofactor
        r1, r2 = pair.left[..., :, None], pair.right[..., None, :]
        return (4.0 / math.pi) * pair.cosine * (r1 * ratio / left) * (r2 * ratio / right) * ratio

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2]) = sqrt(4 / (pi sqrt(1 + 4 r^2)))``."""
        return 2.0 / math.sqrt(math.pi) * hypotenuse(torch.ones_like(r), 2.0 * r).rsqrt()

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2]) = sqrt(4 / pi) r (1 + 4 r^2)^(-3/4)``."""
        narrow = hypotenuse(torch.ones_like(r), 2.0 * r).rsqrt()
        return 2.0 / math.sqrt(math.pi) * (r * narrow) * narrow * narrow


def _widened(pair: Gram) -> tuple[Tensor, Tensor, Tensor]:
    r"""``q1 q2``, the sine ``s = 2 K12 q1 q2`` and ``sqrt(1 - s^2)``, with q = 1/sqrt(1 + 2 K)."""
    one_left, one_right = torch.ones_like(pair.left), torch.ones_like(pair.right)
    wide_left = hypotenuse(one_left, math.sqrt(2.0) * pair.left)
    wide_right = hypotenuse(one_right, math.sqrt(2.0) * pair.right)
    p1, q1 = math.sqrt(2.0) * pair.left / wide_left, 1.0 / wide_left
    p2, q2 = math.sqrt(2.0) * pair.right / wide_right, 1.0 / wide_right
    p, q = p1[..., :, None] * p2[..., None, :], q1[..., :, None] * q2[..., None, :]
    turned = 0.5 * (
        (p1[..., :, None] - p2[..., None, :]).square()
        + (q1[..., :, None] - q2[..., None, :]).square()
    )
    below = turned + q + p * pair.apart  # 1 - s
    above = turned + q + p * pair.together  # 1 + s
    floor = torch.finfo(below.dtype).tiny
    return q, p * pair.cosine, (below * above).clamp_min(floor).sqrt()
