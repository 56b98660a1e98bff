"""What every dual activation offers, and how the smooth ones keep the digits of small angles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite.angles import Angle
from farfield.infinite.duals.halves import Halves
from farfield.infinite.pairs import Bundle, Rows, Vectors
from farfield.infinite.safe import safe_divide

_NEAR = 1e-8  # squared distances below this are expanded around the diagonal


@dataclass(frozen=True, eq=False)
class RowLaw(Bundle):
    """What an activation makes of each row: of u ~ N(0, r^2).

    Attributes:
        r: Standard deviations of u.
        mean: ``E[phi(u)]``.
        root: ``sqrt(E[phi(u)^2])``.
        slope_root: ``sqrt(E[phi'(u)^2])``.
        gain_root: ``sqrt(E[u^2 phi'(u)^2])``.
        features: What else the activation wants to know of a row.
        inner: The law of the activation that this one is made of.
    """

    r: Rows
    mean: Rows
    root: Rows
    slope_root: Rows
    gain_root: Rows
    features: Vectors | None = None
    inner: RowLaw | None = None


class Activation(ABC):
    """An elementwise function phi of a Gaussian with mean zero.

    The methods of rows take standard deviations r, u ~ N(0, r^2), all at once; the methods of
    pairs take what :meth:`rows` made of them and the angles, for one tile.
    """

    @abstractmethod
    def value(self, u: Tensor) -> Tensor:
        """phi(u) itself."""

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where phi or its slope jumps."""
        return ()

    @property
    def halves(self) -> Halves | None:
        """The polynomial that phi is on each half line, if it is one."""
        return None

    def after(self, inner: Halves) -> Activation | None:
        """``phi(inner(u))`` in closed form, if there is one."""
        return None

    @abstractmethod
    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)]``."""

    @abstractmethod
    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``."""

    @abstractmethod
    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""

    @abstractmethod
    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``."""

    def rows(self, r: Rows) -> RowLaw:
        """All of these."""
        return RowLaw(
            r, r.map(self.mean), r.map(self.root), r.map(self.slope_root), r.map(self.gain_root)
        )

    @abstractmethod
    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        """The angle of phi(u) and phi(v): its cosine is ``E[phi(u) phi(v)]`` over the roots."""

    @abstractmethod
    def slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]`` over the slope roots."""

    @abstractmethod
    def gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots: what a trained gain before phi adds."""


class Smooth(Activation):
    """An activation whose three dual functions are given as they are.

    The gap 1 - cos of nearly equal inputs comes from an expansion around the diagonal instead of
    from 1 - (rounded cosine).
    """

    @property
    def odd(self) -> bool:
        """Whether ``phi(-u) = -phi(u)``: near antipodes are then like near pairs."""
        return False

    @abstractmethod
    def second(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi(u) phi(v)]`` over the roots."""

    @abstractmethod
    def second_slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]``."""

    @abstractmethod
    def second_gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots."""

    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        """The angle of phi(u) and phi(v).

        Near the diagonal, with R = sqrt(E[phi^2]), g = sqrt(E[u^2 phi'^2]) / r and by Price's
        theorem, ``R1 R2 (1 - cos) = r1 r2 (1 - c) E[phi' phi'] + ((r1 - r2)^2 g1 g2
        - (R1 - R2)^2) / 2``, up to terms of fourth order in the distance.
        """
        # Rounding must not take it beyond 1, where roots of 1 - cos would be NaN.
        cosine = self.second(law, angle).clamp(-1.0, 1.0)
        if bool((law.r.left == 0).any()) and bool((law.r.right == 0).any()):
            # Nothing but a direction is left of two zeros: that which small inputs would have.
            nothing = (law.root.left == 0) & (law.root.right == 0)
            cosine = torch.where(nothing, angle.cosine, cosine)
        apart, together = 1.0 - cosine, 1.0 + cosine
        near, equal = _near(law.r, angle.apart), is_equal(law.r, angle)
        if bool((near & ~equal).any()):
            apart = torch.where(near, self._gap(law, angle), apart)
        if bool(near.any()):
            apart = apart.masked_fill(equal, 0.0)
            cosine = torch.where(near, 1.0 - apart, cosine)
        if self.odd and not angle.is_acute:
            near = _near(law.r, angle.together)
            if bool(near.any()):
                together = torch.where(near, self._gap(law, angle.mirrored()), together)
        return Angle(apart, together, cosine)

    def _gap(self, law: RowLaw, angle: Angle) -> Tensor:
        r1, r2 = law.r.left, law.r.right
        g1, g2 = safe_divide(law.gain_root.left, r1), safe_divide(law.gain_root.right, r2)
        big1, big2 = positive(law.root.left), positive(law.root.right)
        turned = (r1 / big1) * angle.apart * (r2 / big2) * self.second_slope(law, angle)
        stretched = ((r1 - r2) / big1) * ((r1 - r2) / big2) * g1 * g2
        grown = ((big1 - big2) / big1) * ((big1 - big2) / big2)
        return (turned + 0.5 * (stretched - grown)).clamp_min(0.0)

    def slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]`` over the slope roots."""
        return safe_divide(self.second_slope(law, angle), law.slope_root.outer())

    def gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots."""
        return self.second_gain(law, angle)


def on_diagonal(function: Callable[[Rows, Angle], Tensor], r: Tensor) -> Tensor:
    """The values that a function of pairs takes on the pairs (u, u), one for each row."""
    rows = r[..., None, None]
    return function(Rows(rows, rows), Angle(torch.zeros_like(rows)))[..., 0, 0]


def positive(root: Tensor) -> Tensor:
    """The root to divide by: 1 instead of 0."""
    return torch.where(root == 0, 1.0, root)


def is_equal(r: Rows, angle: Angle) -> Tensor:
    """Where u and v are one and the same."""
    return (angle.apart == 0) & (r.gap() == 0)


def _near(r: Rows, apart: Tensor) -> Tensor:
    stretched = r.gap().square()
    turned = r.left * apart * r.right
    return (apart < _NEAR) & (stretched < _NEAR * r.outer()) & (stretched + turned < _NEAR)
