r"""Powers on each half line: ReLU^k, ``u^k``, ``|u|^k``, ``u |u|`` and the like, k >= 2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from numpy.polynomial import Chebyshev, Polynomial
from torch import Tensor

from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import Activation, RowLaw
from farfield.infinite.duals.halves import Coefficients, Halves, evaluate
from farfield.infinite.safe import safe_sqrt

Numbers = npt.NDArray[np.float64]

_TERMS = 60  # of a series in y / 2 <= 1 / 2
_FIT = 22  # degree; the error falls like (3 + sqrt(8))^-degree


@dataclass(frozen=True)
class Power(Activation):
    r"""``phi(u) = negative |u|^k`` for u < 0 and ``positive u^k`` for u > 0.

    With J_k the arc-cosine kernel of degree k, ``S(theta) = J_k(theta) / J_k(0)`` and kappa =
    2 negative positive / (negative^2 + positive^2), the cosine of phi(u) and phi(v) is
    ``S(theta) + kappa S(pi - theta)``. Since u^k is the sum of both sides,
    ``S(theta) + (-1)^k S(pi - theta) = h(cos theta)``, the cosine of u^k and v^k, a polynomial.
    That leaves the small one of the two (see :func:`_bend`), which is computed by itself, so
    that nothing cancels at any angle. The slope is a power of degree k - 1, and u phi' = k phi.

    Source: Cho and Saul, "Kernel Methods for Deep Learning" (2009), the arc-cosine kernel of
    degree k, applied to each of the two half lines.

    Attributes:
        degree: k, at least 1.
        negative: What multiplies |u|^k for u < 0.
        positive: What multiplies u^k for u > 0.
    """

    degree: int
    negative: float
    positive: float

    @property
    def halves(self) -> Halves:
        """The coefficients of ``u^k`` on each side."""
        zeros = [0.0] * self.degree
        return Halves.of([*zeros, (-1) ** self.degree * self.negative], [*zeros, self.positive])

    @property
    def kinks(self) -> tuple[float, ...]:
        """Zero, where a derivative jumps, if one does."""
        return () if self.halves.is_polynomial else (0.0,)

    @property
    def _size(self) -> float:
        return math.hypot(self.negative, self.positive) / math.sqrt(2.0)

    @property
    def _kappa(self) -> float:
        if abs(self.negative) == abs(self.positive):
            return math.copysign(1.0, self.negative) * math.copysign(1.0, self.positive)
        return (self.negative / self._size) * (self.positive / self._size)

    def value(self, u: Tensor) -> Tensor:
        """phi(u) itself."""
        size = u.abs().pow(self.degree)
        return torch.where(u < 0, self.negative * size, self.positive * size)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])`` with ``E[z^(2k)] = (2k - 1)!!``."""
        return r.pow(self.degree) * (self._size * math.sqrt(_double_factorial(self.degree)))

    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)]`` with ``E[|z|^k] = 2^(k/2) Gamma((k + 1) / 2) / sqrt(pi)``."""
        k = self.degree
        absolute: float = 2.0 ** (k / 2) * math.gamma((k + 1) / 2) / math.sqrt(math.pi)
        return r.pow(k) * (0.5 * (self.negative + self.positive) * absolute)

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""
        k = self.degree
        return r.pow(k - 1) * (k * self._size * math.sqrt(_double_factorial(k - 1)))

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``: u phi'(u) = k phi(u) here."""
        return self.root(r) * self.degree

    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        """The angle of phi(u) and phi(v)."""
        return _angle(self.degree, self._kappa, angle)

    def slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]`` over the slope roots: on one side the sign changes."""
        return _angle(self.degree - 1, -self._kappa, angle).cosine

    def gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots."""
        return self.angle(law, angle).cosine


def _angle(k: int, kappa: float, angle: Angle) -> Angle:
    """The angle whose cosine is ``S(theta) + kappa S(pi - theta)``.

    With t <= pi / 2 the angle to the nearer one of v and -v, S(pi - t) is the small one, and
    ``S(t) = h(cos t) - (-1)^k S(pi - t)``.
    """
    sign = (-1.0) ** k
    near = None if angle.is_acute else angle.cosine >= 0
    short = angle.apart if near is None else torch.where(near, angle.apart, angle.together)
    whole, rest = _monomial(k, angle.cosine if near is None else angle.cosine.abs(), short)
    if kappa != sign:
        bend = _bend(k, short)
        lifted, lifted_far = (kappa - sign) * bend, (1.0 - kappa * sign) * bend
    else:
        lifted = lifted_far = torch.zeros_like(short)
    apart = (rest - lifted).clamp_min(0.0)
    if near is None:
        return Angle(apart, cosine=whole + lifted)
    cosine = torch.where(near, whole + lifted, kappa * whole + lifted_far)
    far = (1.0 - kappa) + kappa * rest - lifted_far
    apart = torch.where(near, apart, far.clamp_min(0.0))
    if kappa >= 0:
        return Angle(apart, cosine=cosine)
    far = ((1.0 + kappa) - kappa * rest + lifted_far).clamp_min(0.0)
    return Angle(apart, torch.where(near, 1.0 + cosine, far), cosine)


def _monomial(k: int, cosine: Tensor, short: Tensor) -> tuple[Tensor, Tensor]:
    """h(c), the cosine of u^k and v^k, and 1 - h(c), for c >= 0 and ``short = 1 - c``.

    With ``h(c) = c^odd g(c^2)``, g(1) = 1, all terms of ``1 - g(s) = (1 - s) q(s)`` are positive.
    """
    weights = _hermite_weights(k)
    remaining = [sum(weights[m + 1 :]) for m in range(len(weights) - 1)]
    square = cosine * cosine
    whole = evaluate(weights, square)
    rest = short * (2.0 - short) * evaluate(tuple(remaining), square)
    return (cosine * whole, short + cosine * rest) if k % 2 else (whole, rest)


@cache
def _hermite_weights(k: int) -> Coefficients:
    """Shares of E[z^(2k)] that the Hermite polynomials of degree k mod 2, ..., k - 2, k have."""
    sizes = []
    for j in range(k % 2, k + 1, 2):
        m = (k - j) // 2
        sizes.append(math.factorial(k) ** 2 / (4**m * math.factorial(m) ** 2 * math.factorial(j)))
    return tuple(size / _double_factorial(k) for size in sizes)


def _bend(k: int, short: Tensor) -> Tensor:
    r"""``S(pi - t) = J_k(pi - t) / J_k(0)`` for t <= pi / 2, where it is small.

    ``J_k(pi - t) = k! integral_0^t (cos b - cos t)^k db`` (in polar coordinates, with the radius
    integrated out), which is ``k! B(1/2, k + 1) y^k sqrt(y / 2) F(1/2, 1/2; k + 3/2; y / 2)`` with
    y = 1 - cos t. The hypergeometric function F is almost 1, and replaced by a polynomial in y.
    """
    return short**k * safe_sqrt(short) * evaluate(_fit(k), 2.0 * short - 1.0)


@cache
def _fit(k: int) -> Coefficients:
    """What stands behind ``y^k sqrt(y)``, as a polynomial of 2 y - 1."""
    beta = math.gamma(0.5) * math.factorial(k) / math.gamma(k + 1.5)
    factor = math.factorial(k) * beta / (math.sqrt(2.0) * math.pi * _double_factorial(k))

    def value(y: Numbers) -> Numbers:
        term = total = np.full_like(y, factor)
        for n in range(_TERMS):
            term = term * ((n + 0.5) ** 2 / ((k + 1.5 + n) * (n + 1)) * 0.5) * y
            total = total + term
        return total

    fit = Chebyshev.interpolate(value, _FIT, domain=[0.0, 1.0])
    return tuple(float(c) for c in fit.convert(kind=Polynomial, domain=[0, 1], window=[-1, 1]).coef)


def _double_factorial(k: int) -> int:
    """``(2k - 1)!! = E[z^(2k)]``."""
    return math.prod(range(1, 2 * k, 2))
