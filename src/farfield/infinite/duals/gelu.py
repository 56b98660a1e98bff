r"""``phi(u) = u Phi(u)`` with Phi the normal distribution function: the exact GELU."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from farfield.infinite.duals.base import Smooth, diagonal_of
from farfield.infinite.duals.shrunk import Shrunk
from farfield.infinite.gram import Gram

_TURN = 2.0 * math.pi


@dataclass(frozen=True)
class Gelu(Smooth):
    r"""Integration by parts (Stein's lemma) takes every factor u or v out of the expectation.

    With q = 1 / sqrt(1 + r^2), p = r q, ``s = p1 p2 cos theta``, ``d = sqrt(1 - s^2)``,
    Psi = pi - arccos s and t = q / d:
    ``E[phi(u) phi(v)] = r1 r2 / (2 pi) (p1 p2 d + cos theta (Psi + s (t1 t2)^2 d^3))``.

    Source: derived here, and checked against numerical integration.
    """

    def value(self, u: Tensor) -> Tensor:
        """The function itself, u Phi(u)."""
        return F.gelu(u)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``."""
        return r * diagonal_of(lambda pair: _moment(Shrunk.of(pair, 1.0), pair), r).sqrt()

    def mean(self, r: Tensor) -> Tensor:
        """``E[u Phi(u)] = r^2 / sqrt(2 pi (1 + r^2))``."""
        return r * diagonal_of(lambda pair: Shrunk.of(pair, 1.0).p1, r) / math.sqrt(_TURN)

    def second(self, left: Tensor, right: Tensor, pair: Gram) -> Tensor:
        """``E[phi(u) phi(v)] / (left * right)``."""
        law = Shrunk.of(pair, 1.0)
        return (law.r1 / left) * (law.r2 / right) * _moment(law, pair)

    def second_slope(self, pair: Gram) -> Tensor:
        r"""``(Psi + s d (t1^2 + t2^2 + (t1 t2)^2)) / (2 pi)``."""
        law = Shrunk.of(pair, 1.0)
        t1, t2 = (law.q1 / law.cofactor) ** 2, (law.q2 / law.cofactor) ** 2
        return (_obtuse(law) + law.sine * law.cofactor * (t1 + t2 + t1 * t2)) / _TURN

    def second_gain(self, left: Tensor, right: Tensor, pair: Gram) -> Tensor:
        """``E[u v phi'(u) phi'(v)] / (left * right)``."""
        law = Shrunk.of(pair, 1.0)
        return (law.r1 / left) * (law.r2 / right) * _gain(law, pair)

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""
        return diagonal_of(self.second_slope, r).sqrt()

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``."""
        return r * diagonal_of(lambda pair: _gain(Shrunk.of(pair, 1.0), pair), r).sqrt()


def _obtuse(law: Shrunk) -> Tensor:
    """``pi - arccos s``, accurate where it is small."""
    return torch.atan2(law.cofactor, -law.sine)


def _moment(law: Shrunk, pair: Gram) -> Tensor:
    """``E[phi(u) phi(v)] / (r1 r2)``."""
    d, t = law.cofactor, (law.q1 / law.cofactor) * (law.q2 / law.cofactor)
    turned = pair.cosine * (_obtuse(law) + law.sine * t**2 * d**3)
    return (law.p1 * law.p2 * d + turned) / _TURN


def _gain(law: Shrunk, pair: Gram) -> Tensor:
    r"""``E[u v phi'(u) phi'(v)] / (r1 r2)`` with phi' = Phi + u n, n the normal density.

    The sum of ``E[u v Phi(u) Phi(v)]``, of ``E[u Phi(u) v^2 n(v)]`` and its mirror image, and of
    ``E[u^2 v^2 n(u) n(v)]``. The weights n turn (u, v) into a Gaussian with variances
    ``M11 = p1^2 (1 - p2^2 c^2) / d^2`` (M22 likewise) and covariance ``s q1 q2 / d^2``.
    """
    c, s, d = pair.cosine, law.sine, law.cofactor
    t1, t2 = (law.q1 / d) ** 2, (law.q2 / d) ** 2
    cross = pair.apart * pair.together
    n1 = (cross + (c * law.q1) ** 2) / d**2  # (1 - p1^2 c^2) / d^2
    n2 = (cross + (c * law.q2) ** 2) / d**2
    p = law.p1 * law.p2
    first = t2 * d * (p * n1 + c * s * (2.0 * law.q2**2 - law.p2**2 * n1))
    mirror = t1 * d * (p * n2 + c * s * (2.0 * law.q1**2 - law.p1**2 * n2))
    both = p * d**3 * t1 * t2 * (n1 * n2 + 2.0 * c * c * t1 * t2)
    return _moment(law, pair) + (first + mirror + both) / _TURN
