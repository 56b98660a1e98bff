r"""ReLU and its relatives: ``phi(u) = negative * min(u, 0) + positive * max(u, 0)``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import Activation, RowLaw
from farfield.infinite.duals.halves import Halves


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
    def halves(self) -> Halves:
        """The slopes."""
        return Halves.of([0.0, self.negative], [0.0, self.positive])

    @property
    def _size(self) -> float:
        return math.hypot(self.negative, self.positive) / math.sqrt(2.0)

    @property
    def kappa(self) -> float:
        """``2 negative positive / (negative^2 + positive^2)``."""
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

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""
        return torch.full_like(r, self._size)

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``: u phi'(u) = phi(u) here."""
        return self.root(r)

    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        """The angle of phi(u) and phi(v), from sums that do not cancel."""
        if self.is_linear:
            return angle
        kappa, arc = self.kappa, angle.arc
        share = (1.0 - kappa) / math.pi
        apart = torch.sub(angle.apart, arc.bend, alpha=share).clamp_min(0.0)
        if arc.near is None:
            # For kappa <= 1/2 the cosine is at least 1 / (2 pi), so 1 - apart has its digits.
            short = angle.is_short or kappa <= 0.5
            return Angle(apart, cosine=None if short else angle.cosine + share * arc.bend)
        bend = share * arc.bend
        cosine = torch.where(arc.near, angle.cosine, kappa * angle.cosine) + bend
        apart = torch.where(arc.near, apart, (1.0 + kappa) - kappa * angle.together - bend)
        if kappa <= 0:
            return Angle(apart, cosine=cosine)
        near = torch.where(arc.near, angle.together, (1.0 - kappa) + kappa * angle.together)
        return Angle(apart, near + bend, cosine)

    def slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)] = size^2 (1 - (1 - kappa) theta / pi)``."""
        if self.is_linear:
            return torch.ones_like(angle.apart)
        return linear_in_angle(self.kappa, angle)

    def gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]``: u phi'(u) = phi(u) here."""
        return self.angle(law, angle).cosine


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

    @property
    def halves(self) -> Halves:
        """The two constants."""
        return Halves.of([self.negative], [self.positive])

    def value(self, u: Tensor) -> Tensor:
        """phi(u) itself."""
        return torch.where(u < 0, self.negative, torch.where(u > 0, self.positive, 0.0)).to(u)

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``."""
        return torch.full_like(r, math.hypot(self.negative, self.positive) / math.sqrt(2.0))

    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)]``."""
        return torch.full_like(r, 0.5 * (self.negative + self.positive))

    def slope_root(self, r: Tensor) -> Tensor:
        """Zero: the slope is zero almost everywhere."""
        return torch.zeros_like(r)

    def gain_root(self, r: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(r)

    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        """The angle of phi(u) and phi(v)."""
        kappa = 2 * self.negative * self.positive / (self.negative**2 + self.positive**2)
        bend = ((1.0 - kappa) / math.pi) * angle.arc.angle
        apart = angle.arc.choose(bend, (1.0 - kappa) - bend)
        together = angle.arc.choose(2.0 - bend, (1.0 + kappa) + bend)
        return Angle(apart, together, linear_in_angle(kappa, angle))

    def slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """Zero."""
        return torch.zeros_like(angle.apart)

    def gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """Zero."""
        return torch.zeros_like(angle.apart)


def linear_in_angle(kappa: float, angle: Angle) -> Tensor:
    """``1 - (1 - kappa) theta / pi``, accurate where it is small."""
    arc, share = angle.arc, (1.0 - kappa) / math.pi
    if arc.near is None:
        return 1.0 - share * arc.angle
    return torch.where(arc.near, 1.0 - share * arc.angle, kappa + share * arc.angle)
