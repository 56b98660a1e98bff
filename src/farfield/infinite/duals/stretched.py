"""An activation of a multiple of its argument."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.derived import Derived
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
class Stretched(Derived):
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

    def inner_rows(self, r: Rows) -> Rows:
        """Those of the stretched argument."""
        return r * abs(self.factor)
