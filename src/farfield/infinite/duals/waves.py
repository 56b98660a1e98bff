r"""``phi(u) = sin(u + phase)``: sine, cosine and all between."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import Activation, RowLaw, Smooth, on_diagonal, positive
from farfield.infinite.duals.halves import Halves
from farfield.infinite.duals.stretched import stretched
from farfield.infinite.pairs import Rows
from farfield.infinite.safe import hypotenuse

_QUARTER = 0.5 * math.pi


@dataclass(frozen=True)
class Wave(Smooth):
    r"""A wave, from the characteristic function of the Gaussians u - v and u + v.

    With D = Var(u - v), S = Var(u + v) and kappa = cos(2 phase):
    ``E[phi(u) phi(v)] = (exp(-D/2) - kappa exp(-S/2)) / 2``; kappa is 1 for the sine and -1 for
    the cosine. The slope is the wave a quarter further, with -kappa.

    Source: Rahimi and Recht, "Random Features for Large-Scale Kernel Machines" (2007).

    Attributes:
        phase: 0 for the sine, pi / 2 for the cosine.
    """

    phase: float

    @property
    def odd(self) -> bool:
        """The sine is."""
        return self.phase == 0.0

    @property
    def _kappa(self) -> float:
        return math.cos(2.0 * self.phase)

    def value(self, u: Tensor) -> Tensor:
        """The function itself."""
        return torch.cos(u) if self.phase == _QUARTER else torch.sin(u + self.phase)

    def after(self, inner: Halves) -> Activation | None:
        """The wave of ``a + b u``."""
        if not inner.is_polynomial or inner.degree > 1:
            return None
        shift, rate = inner.coefficients(0)[0], inner.coefficients(1)[0]
        return stretched(Wave(self.phase + shift), rate)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt((1 - kappa exp(-2 r^2)) / 2)``."""
        kappa = self._kappa
        if kappa <= 0:
            return (0.5 * (1.0 - kappa * torch.exp(-2.0 * r * r))).sqrt()
        tiny = r < 1e-9  # sin u = u to the last digit, and r^2 would underflow soon
        safe = torch.where(tiny, 1.0, r)
        offset = _sine(self.phase)
        root = (offset**2 - 0.5 * kappa * torch.expm1(-2.0 * safe * safe)).sqrt()
        return torch.where(tiny, hypotenuse(r, torch.full_like(r, offset)), root)

    def mean(self, r: Tensor) -> Tensor:
        """``sin(phase) exp(-r^2 / 2)``."""
        return _sine(self.phase) * torch.exp(-0.5 * r * r)

    def second(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi(u) phi(v)]`` over the roots."""
        left, right = positive(law.root.left), positive(law.root.right)
        waves = _waves(law.r, angle, self.phase) / left / right
        if not self.odd:
            return waves
        r1, r2 = law.r.left, law.r.right
        tiny = (r1 < 1e-9) & (r2 < 1e-9)
        return torch.where(tiny, (r1 / left) * (r2 / right) * angle.cosine, waves)

    def second_slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]``."""
        return _waves(law.r, angle, self.phase + _QUARTER)

    def second_gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots."""
        left, right = positive(law.gain_root.left), positive(law.gain_root.right)
        return (law.r.left / left) * (law.r.right / right) * self._gain(law.r, angle)

    def _gain(self, r: Rows, angle: Angle) -> Tensor:
        r"""``E[u v phi'(u) phi'(v)] / (r1 r2)``.

        ``E[u v cos w] = (Cov(u, v) - Cov(u, w) Cov(v, w)) exp(-Var(w) / 2)`` for w = u -+ v.
        """
        r1, r2 = r.left, r.right
        near, far = _variances(r, angle)
        minus1 = (r1 - r2) + r2 * angle.apart  # Cov(u, u - v) / r1
        minus2 = (r1 - r2) - r1 * angle.apart  # Cov(v, u - v) / r2
        plus1, plus2 = r1 + r2 * angle.cosine, r2 + r1 * angle.cosine
        first = (angle.cosine - minus1 * minus2) * torch.exp(-0.5 * near)
        second = (angle.cosine - plus1 * plus2) * torch.exp(-0.5 * far)
        return 0.5 * (first + self._kappa * second)

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""
        return Wave(self.phase + _QUARTER).root(r)

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``."""
        return r * on_diagonal(self._gain, r).clamp_min(0.0).sqrt()


def _sine(phase: float) -> float:
    """Its sine, which is exactly 0 at whole multiples of pi as they are rounded."""
    return 0.0 if phase % math.pi == 0.0 else math.sin(phase)


SINE, COSINE = Wave(0.0), Wave(_QUARTER)


def _waves(r: Rows, angle: Angle, phase: float) -> Tensor:
    """``E[phi(u) phi(v)]``, for kappa > 0 as ``sin(phase)^2 exp(-D/2)`` plus that of the sines."""
    near, far = _variances(r, angle)
    kappa = math.cos(2.0 * phase)
    if kappa <= 0:
        return 0.5 * (torch.exp(-0.5 * near) - kappa * torch.exp(-0.5 * far))
    return _sine(phase) ** 2 * torch.exp(-0.5 * near) + kappa * _sines(r, angle)


def _sines(r: Rows, angle: Angle) -> Tensor:
    """``E[sin u sin v]``.

    exp(-D/2) - exp(-S/2) = exp(-min/2) (1 - exp(-|S - D|/2)), with S - D = 4 K12.
    """
    near, far = _variances(r, angle)
    lift = -torch.expm1(-2.0 * r.left * angle.cosine.abs() * r.right)
    size = 0.5 * torch.exp(-0.5 * torch.minimum(near, far)) * lift
    return torch.where(angle.cosine < 0, -size, size)


def _variances(r: Rows, angle: Angle) -> tuple[Tensor, Tensor]:
    """``Var(u - v)`` and ``Var(u + v)``."""
    stretched_by = r.gap().square()
    near = stretched_by + 2.0 * (r.left * angle.apart) * r.right
    return near, stretched_by + 2.0 * (r.left * angle.together) * r.right
