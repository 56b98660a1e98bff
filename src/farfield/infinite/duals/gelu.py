r"""``phi(u) = u Phi(u)`` with Phi the normal distribution function: the exact GELU."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import RowLaw, Smooth, on_diagonal, positive
from farfield.infinite.duals.shrunk import Shrunk
from farfield.infinite.pairs import Rows
from farfield.infinite.safe import hypotenuse, safe_sqrt

_TURN = 2.0 * math.pi


@dataclass(frozen=True)
class Gelu(Smooth):
    r"""Integration by parts (Stein's lemma) takes every factor u or v out of the expectation.

    With q = 1 / sqrt(1 + r^2), p = r q, ``s = p1 p2 cos theta``, ``d = sqrt(1 - s^2)``,
    Psi = pi - arccos s and t = q / d:
    ``E[phi(u) phi(v)] = r1 r2 / (2 pi) (p1 p2 d + cos theta (Psi + s (t1 t2)^2 d^3))``.

    Source: derived here, and checked against numerical integration.
    """

    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        r"""The angle of phi(u) and phi(v).

        Near antipodes, 1 + cos is that of a sum of two kernels (see :func:`angles.mix`): phi is
        u / 2 plus an even function, and the kernel of neither cancels that of the other.
        """
        own = super().angle(law, angle)
        if angle.is_acute:
            return own
        p1, q1 = _shares(law.r.left, law.root.left)
        p2, q2 = _shares(law.r.right, law.root.right)
        even = (law.r.left / positive(law.root.left)) * (law.r.right / positive(law.root.right))
        turned = 0.5 * ((p1 - p2).square() + (q1 - q2).square()) + q1 * q2
        together = turned + p1 * p2 * angle.together + even * _even(law.r, angle)
        return Angle(own.apart, torch.where(own.cosine < -0.5, together, own.together), own.cosine)

    def value(self, u: Tensor) -> Tensor:
        """The function itself, u Phi(u)."""
        return F.gelu(u)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``."""
        return r * on_diagonal(_moment, r).sqrt()

    def mean(self, r: Tensor) -> Tensor:
        """``E[u Phi(u)] = r^2 / sqrt(2 pi (1 + r^2))``."""
        return r * (r / hypotenuse(torch.ones_like(r), r)) / math.sqrt(_TURN)

    def second(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi(u) phi(v)]`` over the roots."""
        left, right = positive(law.root.left), positive(law.root.right)
        return (law.r.left / left) * (law.r.right / right) * _moment(law.r, angle)

    def second_slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]``."""
        return _slope(law.r, angle)

    def second_gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots."""
        left, right = positive(law.gain_root.left), positive(law.gain_root.right)
        return (law.r.left / left) * (law.r.right / right) * _gain(law.r, angle)

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""
        return on_diagonal(_slope, r).sqrt()

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``."""
        return r * on_diagonal(_gain, r).sqrt()


def _obtuse(law: Shrunk) -> Tensor:
    """``pi - arccos s``, accurate where it is small."""
    return torch.atan2(law.cofactor, -law.sine)


def _moment(r: Rows, angle: Angle) -> Tensor:
    """``E[phi(u) phi(v)] / (r1 r2)``."""
    law = Shrunk.of(r, angle, 1.0)
    return _around(law, angle, _obtuse(law))


def _even(r: Rows, angle: Angle) -> Tensor:
    """The same of the even part of phi alone, ``phi(u) - u / 2``."""
    law = Shrunk.of(r, angle, 1.0)
    return _around(law, angle, torch.atan2(law.sine, law.cofactor))


def _around(law: Shrunk, angle: Angle, arc: Tensor) -> Tensor:
    d, t = law.cofactor, (law.q1 / law.cofactor) * (law.q2 / law.cofactor)
    turned = angle.cosine * (arc + law.sine * t**2 * d**3)
    return (law.p1 * law.p2 * d + turned) / _TURN


def _shares(r: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of u / 2 and of the even part in the root."""
    even = r * safe_sqrt(on_diagonal(_even, r))
    return 0.5 * r / positive(root), even / positive(root)


def _slope(r: Rows, angle: Angle) -> Tensor:
    r"""``(Psi + s d (t1^2 + t2^2 + (t1 t2)^2)) / (2 pi)``."""
    law = Shrunk.of(r, angle, 1.0)
    t1, t2 = (law.q1 / law.cofactor) ** 2, (law.q2 / law.cofactor) ** 2
    return (_obtuse(law) + law.sine * law.cofactor * (t1 + t2 + t1 * t2)) / _TURN


def _gain(r: Rows, angle: Angle) -> Tensor:
    r"""``E[u v phi'(u) phi'(v)] / (r1 r2)`` with phi' = Phi + u n, n the normal density.

    The sum of ``E[u v Phi(u) Phi(v)]``, of ``E[u Phi(u) v^2 n(v)]`` and its mirror image, and of
    ``E[u^2 v^2 n(u) n(v)]``. The weights n turn (u, v) into a Gaussian with variances
    ``M11 = p1^2 (1 - p2^2 c^2) / d^2`` (M22 likewise) and covariance ``s q1 q2 / d^2``.
    """
    law = Shrunk.of(r, angle, 1.0)
    c, s, d = angle.cosine, law.sine, law.cofactor
    t1, t2 = (law.q1 / d) ** 2, (law.q2 / d) ** 2
    cross = angle.apart * angle.together
    n1 = (cross + (c * law.q1) ** 2) / d**2  # (1 - p1^2 c^2) / d^2
    n2 = (cross + (c * law.q2) ** 2) / d**2
    p = law.p1 * law.p2
    first = t2 * d * (p * n1 + c * s * (2.0 * law.q2**2 - law.p2**2 * n1))
    mirror = t1 * d * (p * n2 + c * s * (2.0 * law.q1**2 - law.p1**2 * n2))
    both = p * d**3 * t1 * t2 * (n1 * n2 + 2.0 * c * c * t1 * t2)
    return _moment(r, angle) + (first + mirror + both) / _TURN
