r"""``phi(u) = exp(u)`` and ``phi(u) = exp(-c u^2)``: never negative, so no angle is obtuse."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite.angles import Angle
from farfield.infinite.duals.affine import Affine
from farfield.infinite.duals.base import Activation, RowLaw
from farfield.infinite.duals.halves import Halves
from farfield.infinite.duals.stretched import stretched
from farfield.infinite.safe import hypotenuse, safe_sqrt

_LARGE = 1e8  # from here on log(1 + h^2) = 2 log h to the last digit, also in float32


@dataclass(frozen=True)
class Exponential(Activation):
    r"""``E[exp(u) exp(v)] = exp((K11 + K22 + 2 K12) / 2)``, the mean of a lognormal.

    The root is ``exp(r^2)`` and the cosine ``exp(-Var(u - v) / 2)``. The weight exp(u + v) moves
    the means of u and v by their covariances with u + v, which gives the gain.
    """

    def value(self, u: Tensor) -> Tensor:
        """exp(u)."""
        return torch.exp(u)

    def after(self, inner: Halves) -> Activation | None:
        """``exp(a + b u)`` and ``exp(a - c u^2)``."""
        if not inner.is_polynomial or inner.degree > 2:
            return None
        (constant, _), (rate, _), (square, _) = (inner.coefficients(k) for k in range(3))
        if square > 0.0 or (square and rate):
            return None
        function = Bump(-square) if square else stretched(self, rate)
        return function if constant == 0.0 else Affine(function, math.exp(constant), 0.0)

    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)] = exp(r^2 / 2)``."""
        return torch.exp(0.5 * r * r)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``."""
        return torch.exp(r * r)

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``: phi' = phi here."""
        return self.root(r)

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2]) = r sqrt(1 + 4 r^2) exp(r^2)``."""
        return r * hypotenuse(torch.ones_like(r), 2.0 * r) * self.root(r)

    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        """The angle of phi(u) and phi(v)."""
        half = 0.5 * law.r.gap().square() + (law.r.left * angle.apart) * law.r.right
        return Angle(-torch.expm1(-half), cosine=torch.exp(-half))

    def slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]`` over the slope roots."""
        return self.angle(law, angle).cosine

    def gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots.

        ``c + Cov(u, u + v) Cov(v, u + v) / (r1 r2)`` over ``sqrt((1 + 4 K11)(1 + 4 K22))``.
        """
        r1, r2 = law.r.left, law.r.right
        wide1, wide2 = (hypotenuse(torch.ones_like(r), 2.0 * r) for r in (r1, r2))
        plus1 = (r1 - r2) + r2 * angle.together
        plus2 = (r2 - r1) + r1 * angle.together
        weighed = angle.cosine / wide1 / wide2 + (plus1 / wide1) * (plus2 / wide2)
        return self.angle(law, angle).cosine * weighed


@dataclass(frozen=True)
class Bump(Activation):
    r"""``exp(-c u^2)``: ``E[phi(u) phi(v)] = det(1 + 2 c K)^(-1/2)``.

    Over the roots ``(1 + 4 c r^2)^(-1/4)`` that is a cosine with ``cos^-4 = 1 + X`` and, for
    A = 2 c K11, B = 2 c K22, ``E = A B sin^2 theta``,
    ``X = (E (2 + 2 A + 2 B + E) + (A - B)^2) / ((1 + 2 A)(1 + 2 B))``: a sum of positive terms.
    The weight makes (u, v) Gaussian with covariance ``K (1 + 2 c K)^-1``, which gives slope and
    gain.

    Source: Williams, "Computing with Infinite Networks" (1997), treats Gaussian units; this form
    is derived here and checked against 50 digits.

    Attributes:
        rate: c > 0.
    """

    rate: float

    def value(self, u: Tensor) -> Tensor:
        """The function itself."""
        return torch.exp(-self.rate * u.square())

    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)] = (1 + 2 c r^2)^(-1/2)``."""
        return 1.0 / hypotenuse(torch.ones_like(r), math.sqrt(2.0 * self.rate) * r)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``."""
        return self._wide(r).rsqrt()

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2]) = 2 c r (1 + 4 c r^2)^(-3/4)``."""
        return 2.0 * self.rate * (r / self._wide(r)) * self.root(r)

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2]) = sqrt(12) c r^2 (1 + 4 c r^2)^(-5/4)``."""
        return math.sqrt(12.0) * self.rate * (r / self._wide(r)) ** 2 * self.root(r)

    def _wide(self, r: Tensor) -> Tensor:
        """``sqrt(1 + 4 c r^2)``."""
        return hypotenuse(torch.ones_like(r), 2.0 * math.sqrt(self.rate) * r)

    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        """The angle of phi(u) and phi(v)."""
        r1, r2 = law.r.left, law.r.right
        wide1, wide2 = self._wide(r1), self._wide(r2)
        sine = safe_sqrt(angle.apart * angle.together)
        # sqrt(E / (1 + 2 A) / (1 + 2 B)), and the root of X as the length of four parts.
        turned = 2.0 * self.rate * (r1 / wide1) * (r2 / wide2) * sine
        grown = 2.0 * self.rate * ((r1 - r2) / wide1) * ((r1 + r2) / wide2)
        lengths = hypotenuse(turned * wide1, turned * wide2)
        root = hypotenuse(hypotenuse(lengths, (turned * wide1) * (turned * wide2)), grown)
        large = root > _LARGE
        safe = torch.where(large, 1.0, root)
        logs = torch.where(
            large, 2.0 * torch.where(large, root, 1.0).log(), torch.log1p(safe * safe)
        )
        return Angle(-torch.expm1(-0.25 * logs), cosine=torch.exp(-0.25 * logs))

    def slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]`` over the slope roots: ``cos theta cos(phi(u), phi(v))^3``."""
        return angle.cosine * self.angle(law, angle).cosine ** 3

    def gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots.

        ``cos(phi(u), phi(v))^5 ((1 + A sin^2)(1 + B sin^2) + 2 cos^2 theta) / 3``, by Isserlis'
        theorem for E[u^2 v^2] under the weight.
        """
        cosine = self.angle(law, angle).cosine
        factor = math.sqrt(2.0 * self.rate) * safe_sqrt(angle.apart * angle.together) * cosine
        square = cosine * cosine
        wide1 = square + (law.r.left * factor).square()
        wide2 = square + (law.r.right * factor).square()
        return cosine * (wide1 * wide2 + 2.0 * (angle.cosine * square).square()) / 3.0
