"""A multiple of an activation plus a number."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from farfield.infinite.duals.base import Activation
from farfield.infinite.gram import Gram, Scaled, product


@dataclass(frozen=True, eq=False)
class Affine(Activation):
    """``factor * inner(u) + shift``, in closed form when ``inner`` is.

    Attributes:
        inner: The activation.
        factor: What multiplies it.
        shift: What is added.
    """

    inner: Activation
    factor: float
    shift: float

    def value(self, u: Tensor) -> Tensor:
        """The function itself."""
        return self.factor * self.inner.value(u) + self.shift

    @property
    def kinks(self) -> tuple[float, ...]:
        """Those of the inner activation."""
        return self.inner.kinks

    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)]``."""
        return self.factor * self.inner.mean(r) + self.shift

    def moments(self, pair: Gram) -> Gram:
        """``E[phi(u) phi(v)]``: the covariance stays, the mean moves."""
        size = abs(self.factor)
        gram = self.inner.moments(pair).scaled(size)
        if self.shift == 0.0:
            return gram
        left = self.factor * self.inner.mean(pair.left)
        right = self.factor * self.inner.mean(pair.right)
        spread = gram.minus_product(left, right)
        return spread.plus_gram(product(left + self.shift, right + self.shift))

    def slopes(self, pair: Gram) -> Scaled:
        """``E[phi'(u) phi'(v)]``."""
        return self.inner.slopes(pair).scaled(abs(self.factor))

    def gains(self, pair: Gram) -> Scaled:
        """``E[u v phi'(u) phi'(v)]``."""
        return self.inner.gains(pair).scaled(abs(self.factor))
