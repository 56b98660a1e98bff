"""An activation of a multiple of its argument."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import Activation, RowLaw
from farfield.infinite.duals.rectified import Rectified
from farfield.infinite.pairs import Rows


def stretched(inner: Activation, factor: float) -> Activation:
    """The function ``inner(factor * u)``."""
    if factor == 1.0:
        return inner
    if isinstance(inner, Stretched):
        return stretched(inner.inner, factor * inner.factor)
    if isinstance(inner, Rectified):
        sides = (inner.negative, inner.positive)
        negative, positive = sides if factor >= 0 else sides[::-1]
        return Rectified(negative * factor, positive * factor)
    return Stretched(inner, factor)


@dataclass(frozen=True, eq=False)
class Stretched(Activation):
    """``inner(factor * u)``, in closed form when ``inner`` is.

    The law of the pair (u, v) is that of (-u, -v), so the sign of the factor does not matter.

    Attributes:
        inner: The activation.
        factor: What its argument is multiplied by.
    """

    inner: Activation
    factor: float

    def value(self, u: Tensor) -> Tensor:
        """The function itself."""
        return self.inner.value(self.factor * u)

    @property
    def kinks(self) -> tuple[float, ...]:
        """Those of the inner activation, moved."""
        return tuple(kink / self.factor for kink in self.inner.kinks) if self.factor else ()

    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)]``."""
        return self.inner.mean(r * abs(self.factor))

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``."""
        return self.inner.root(r * abs(self.factor))

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""
        return self.inner.slope_root(r * abs(self.factor)) * abs(self.factor)

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``."""
        return self.inner.gain_root(r * abs(self.factor))

    def rows(self, r: Rows) -> RowLaw:
        """All of these, and those of the inner activation."""
        own, inner = super().rows(r), self.inner.rows(r * abs(self.factor))
        return RowLaw(r, own.mean, own.root, own.slope_root, own.gain_root, inner=inner)

    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        """The angle of phi(u) and phi(v)."""
        return self.inner.angle(_inner(law), angle)

    def slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]`` over the slope roots."""
        return self.inner.slope(_inner(law), angle)

    def gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots."""
        return self.inner.gain(_inner(law), angle)


def _inner(law: RowLaw) -> RowLaw:
    assert law.inner is not None
    return law.inner
