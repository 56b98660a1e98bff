r"""``phi(u) = sin u`` and ``phi(u) = cos u``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import RowLaw, Smooth, on_diagonal, positive
from farfield.infinite.pairs import Rows


@dataclass(frozen=True)
class Wave(Smooth):
    r"""Sine or cosine, from the characteristic function of the Gaussians u - v and u + v.

    With D = Var(u - v) and S = Var(u + v):
    ``E[sin u sin v] = (exp(-D/2) - exp(-S/2)) / 2``,
    ``E[cos u cos v] = (exp(-D/2) + exp(-S/2)) / 2``.

    Source: Rahimi and Recht, "Random Features for Large-Scale Kernel Machines" (2007).

    Attributes:
        sine: Whether it is the sine.
    """

    sine: bool

    @property
    def odd(self) -> bool:  # type: ignore[override]
        """The sine is."""
        return self.sine

    def value(self, u: Tensor) -> Tensor:
        """The function itself."""
        return torch.sin(u) if self.sine else torch.cos(u)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt((1 -+ exp(-2 r^2)) / 2)``."""
        if not self.sine:
            return (0.5 * (1.0 + torch.exp(-2.0 * r * r))).sqrt()
        tiny = r < 1e-9  # sin u = u to the last digit, and r^2 would underflow soon
        safe = torch.where(tiny, 1.0, r)
        return torch.where(tiny, r, (-0.5 * torch.expm1(-2.0 * safe * safe)).sqrt())

    def mean(self, r: Tensor) -> Tensor:
        """0, or ``exp(-r^2 / 2)``."""
        return torch.zeros_like(r) if self.sine else torch.exp(-0.5 * r * r)

    def second(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi(u) phi(v)]`` over the roots."""
        left, right = positive(law.root.left), positive(law.root.right)
        if not self.sine:
            return _cosines(law.r, angle) / left / right
        r1, r2 = law.r.left, law.r.right
        tiny = (r1 < 1e-9) & (r2 < 1e-9)
        linear = (r1 / left) * (r2 / right) * angle.cosine
        return torch.where(tiny, linear, _sines(law.r, angle) / left / right)

    def second_slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]``: the second moment of the other function."""
        return (_cosines if self.sine else _sines)(law.r, angle)

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
        return 0.5 * (first + second if self.sine else first - second)

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""
        return Wave(not self.sine).root(r)

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``."""
        return r * on_diagonal(self._gain, r).clamp_min(0.0).sqrt()


def _cosines(r: Rows, angle: Angle) -> Tensor:
    """``E[cos u cos v]``."""
    near, far = _variances(r, angle)
    return 0.5 * (torch.exp(-0.5 * near) + torch.exp(-0.5 * far))


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
    stretched = r.gap().square()
    near = stretched + 2.0 * (r.left * angle.apart) * r.right
    return near, stretched + 2.0 * (r.left * angle.together) * r.right
