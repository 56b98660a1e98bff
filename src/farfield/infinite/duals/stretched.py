"""An activation of a multiple of its argument."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.rectified import Rectified
from farfield.infinite.gram import Gram, Scaled


def stretched(inner: Activation, factor: float) -> Activation:
    """The function ``inner(factor * u)``."""
    if factor == 1.0:
        return inner
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

    def moments(self, pair: Gram) -> Gram:
        """``E[phi(u) phi(v)]``."""
        return self.inner.moments(pair.scaled(abs(self.factor)))

    def slopes(self, pair: Gram) -> Scaled:
        """``E[phi'(u) phi'(v)]``."""
        return self.inner.slopes(pair.scaled(abs(self.factor))).scaled(abs(self.factor))

    def gains(self, pair: Gram) -> Scaled:
        """``E[u v phi'(u) phi'(v)]``."""
        return self.inner.gains(pair.scaled(abs(self.factor)))
