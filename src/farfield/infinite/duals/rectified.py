r"""ReLU and its relatives: ``phi(u) = negative * min(u, 0) + positive * max(u, 0)``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite.duals.base import Activation
from farfield.infinite.gram import Gram, Scaled, safe_sqrt

# sin t - t cos t = t^3 sum_k coefficient_k t^(2k); twelve terms are exact up to pi / 2.
_SERIES = [(-1.0) ** (k + 1) * 2 * k / math.factorial(2 * k + 1) for k in range(1, 13)]


@dataclass(frozen=True)
class Rectified(Activation):
    r"""Two half lines: ReLU (0, 1), LeakyReLU (slope, 1), identity (1, 1), abs (-1, 1).

    With theta the angle of the pair and kappa = 2 negative positive / (negative^2 + positive^2),
    ``E[phi(u) phi(v)] = r1 r2 (negative^2 + positive^2) / 2
    * (cos theta + (1 - kappa) (sin theta - theta cos theta) / pi)``.

    Source: Cho and Saul, "Kernel Methods for Deep Learning" (2009), the arc-cosine kernel of
    degree 1, applied to each of the two half lines.

    Attributes:
        negative: Slope for u < 0.
        positive: Slope for u > 0.
    """

    negative: float
    positive: float

    @property
    def is_linear(self) -> bool:
        """Whether there is no kink."""
        return self.negative == self.positive

    @property
    def kinks(self) -> tuple[float, ...]:
        """The kink at 0."""
        return () if self.is_linear else (0.0,)

    @property
    def _size(self) -> float:
        return math.hypot(self.negative, self.positive) / math.sqrt(2.0)

    @property
    def _kappa(self) -> float:
        size = self._size
        return (self.negative / size) * (self.positive / size) if size else 1.0

    def value(self, u: Tensor) -> Tensor:
        """phi(u) itself."""
        return torch.where(u < 0, self.negative * u, self.positive * u)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``."""
        return r * self._size

    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)] = (positive - negative) r / sqrt(2 pi)``."""
        return r * ((self.positive - self.negative) / math.sqrt(2.0 * math.pi))

    def moments(self, pair: Gram) -> Gram:
        """``E[phi(u) phi(v)]``, with 1 - cos and 1 + cos as sums that do not cancel."""
        if self.is_linear:
            return pair.scaled(self._size)
        kappa = self._kappa
        folded, acute = _folded_angle(pair)
        bend = ((1.0 - kappa) / math.pi) * _sine_minus(folded)
        cosine = torch.where(acute, pair.cosine, kappa * pair.cosine) + bend
        apart = torch.where(acute, pair.apart, (1.0 + kappa) - kappa * pair.together) - bend
        together = torch.where(acute, pair.together, (1.0 - kappa) + kappa * pair.together) + bend
        return Gram(self.root(pair.left), self.root(pair.right), cosine, apart, together)

    def slopes(self, pair: Gram) -> Scaled:
        """``E[phi'(u) phi'(v)] = size^2 (1 - (1 - kappa) theta / pi)``."""
        size = self._size
        left, right = torch.full_like(pair.left, size), torch.full_like(pair.right, size)
        if self.is_linear:
            return Scaled(left, right, torch.ones_like(pair.cosine))
        folded, acute = _folded_angle(pair)
        bend = ((1.0 - self._kappa) / math.pi) * folded
        return Scaled(left, right, torch.where(acute, 1.0 - bend, self._kappa + bend))

    def gains(self, pair: Gram) -> Scaled:
        """``E[u v phi'(u) phi'(v)]``: u phi'(u) = phi(u) here."""
        return self.moments(pair)


@dataclass(frozen=True)
class Step(Activation):
    """Two constants: sign (-1, 1), the unit step (0, 1).

    ``E[phi(u) phi(v)] = size^2 (1 - (1 - kappa) theta / pi)``; the slope is zero almost
    everywhere, so nothing below a step is trained.

    Source: Cho and Saul (2009), the arc-cosine kernel of degree 0.

    Attributes:
        negative: Value for u < 0.
        positive: Value for u > 0.
    """

    negative: float
    positive: float

    @property
    def kinks(self) -> tuple[float, ...]:
        """The jump at 0."""
        return (0.0,)

    def value(self, u: Tensor) -> Tensor:
        """phi(u) itself."""
        return torch.where(u < 0, self.negative, torch.where(u > 0, self.positive, 0.0)).to(u)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``."""
        return torch.full_like(r, math.hypot(self.negative, self.positive) / math.sqrt(2.0))

    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)]``."""
        return torch.full_like(r, 0.5 * (self.negative + self.positive))

    def moments(self, pair: Gram) -> Gram:
        """``E[phi(u) phi(v)]``."""
        kappa = 2 * self.negative * self.positive / (self.negative**2 + self.positive**2)
        folded, acute = _folded_angle(pair)
        bend = ((1.0 - kappa) / math.pi) * folded
        cosine = torch.where(acute, 1.0 - bend, kappa + bend)
        apart = torch.where(acute, bend, (1.0 - kappa) - bend)
        together = torch.where(acute, 2.0 - bend, (1.0 + kappa) + bend)
        return Gram(self.root(pair.left), self.root(pair.right), cosine, apart, together)

    def slopes(self, pair: Gram) -> Scaled:
        """Zero."""
        return Scaled(
            torch.zeros_like(pair.left), torch.zeros_like(pair.right), torch.zeros_like(pair.cosine)
        )

    def gains(self, pair: Gram) -> Scaled:
        """Zero."""
        return self.slopes(pair)


def _folded_angle(pair: Gram) -> tuple[Tensor, Tensor]:
    """The angle to the nearer one of v and -v, at most pi / 2; and whether that is v."""
    acute = pair.cosine >= 0
    short = torch.where(acute, pair.apart, pair.together)
    return 2.0 * torch.asin(safe_sqrt(0.5 * short)), acute


def _sine_minus(t: Tensor) -> Tensor:
    """``sin t - t cos t`` for 0 <= t <= pi / 2, to full relative accuracy."""
    square = t * t
    total = torch.full_like(t, _SERIES[-1])
    for coefficient in reversed(_SERIES[:-1]):
        total = total * square + coefficient
    return total * square * t
