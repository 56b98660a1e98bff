r"""``phi(u) = sin u`` and ``phi(u) = cos u``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite.duals.base import Smooth, diagonal_of
from farfield.infinite.gram import Gram


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

    def second(self, left: Tensor, right: Tensor, pair: Gram) -> Tensor:
        """``E[phi(u) phi(v)] / (left * right)``."""
        near, far = _variances(pair)
        if not self.sine:
            return 0.5 * (torch.exp(-0.5 * near) + torch.exp(-0.5 * far)) / left / right
        # exp(-D/2) - exp(-S/2) = exp(-min/2) (1 - exp(-|S - D|/2)), with S - D = 4 K12.
        r1, r2 = pair.left[..., :, None], pair.right[..., None, :]
        lift = -torch.expm1(-2.0 * r1 * pair.cosine.abs() * r2)
        size = torch.exp(-0.5 * torch.minimum(near, far)) * lift / left / right
        tiny = (r1 < 1e-9) & (r2 < 1e-9)
        linear = (r1 / left) * (r2 / right) * pair.cosine
        return torch.where(tiny, linear, 0.5 * torch.where(pair.cosine < 0, -size, size))

    def second_slope(self, pair: Gram) -> Tensor:
        """``E[phi'(u) phi'(v)]``: the second moment of the other function."""
        one = torch.ones_like(pair.cosine)
        return Wave(not self.sine).second(one, one, pair)

    def second_gain(self, left: Tensor, right: Tensor, pair: Gram) -> Tensor:
        r"""``E[u v phi'(u) phi'(v)] / (left * right)``.

        ``E[u v cos w] = (Cov(u, v) - Cov(u, w) Cov(v, w)) exp(-Var(w) / 2)`` for w = u -+ v.
        """
        r1, r2 = pair.left[..., :, None], pair.right[..., None, :]
        near, far = _variances(pair)
        minus1 = (r1 - r2) + r2 * pair.apart  # Cov(u, u - v) / r1
        minus2 = (r1 - r2) - r1 * pair.apart  # Cov(v, u - v) / r2
        plus1, plus2 = r1 + r2 * pair.cosine, r2 + r1 * pair.cosine
        first = (pair.cosine - minus1 * minus2) * torch.exp(-0.5 * near)
        second = (pair.cosine - plus1 * plus2) * torch.exp(-0.5 * far)
        both = first + second if self.sine else first - second
        return 0.5 * (r1 / left) * (r2 / right) * both

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""
        return Wave(not self.sine).root(r)

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``."""
        size = torch.where(r == 0, 1.0, r)[..., None, None]
        square = diagonal_of(lambda pair: self.second_gain(size, size, pair), r)
        return r * square.clamp_min(0.0).sqrt()


def _variances(pair: Gram) -> tuple[Tensor, Tensor]:
    """``Var(u - v)`` and ``Var(u + v)``."""
    r1, r2 = pair.left[..., :, None], pair.right[..., None, :]
    stretched = (r1 - r2).square()
    near = stretched + 2.0 * (r1 * pair.apart) * r2
    return near, stretched + 2.0 * (r1 * pair.together) * r2
