"""A multiple of an activation plus a number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.infinite import angles, safe
from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import Activation, RowLaw
from farfield.infinite.duals.derived import Derived, inner_law
from farfield.infinite.duals.halves import Halves
from farfield.infinite.pairs import Rows
from farfield.infinite.safe import hypotenuse, safe_divide


@dataclass(frozen=True, eq=False)
class Affine(Derived):
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

    @property
    def halves(self) -> Halves | None:
        """Those of the inner activation, scaled and shifted."""
        inner = self.inner.halves
        return None if inner is None else inner.affine(self.factor, self.shift)

    def mean(self, r: Tensor) -> Tensor:
        """``E[phi(u)]``."""
        return self.factor * self.inner.mean(r) + self.shift

    def root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi(u)^2])``: the deviation stays, the mean moves."""
        root, mean = self.inner.root(r), self.inner.mean(r)
        return hypotenuse(abs(self.factor) * safe.deviation(root, mean), self.mean(r))

    def slope_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[phi'(u)^2])``."""
        return abs(self.factor) * self.inner.slope_root(r)

    def gain_root(self, r: Tensor) -> Tensor:
        """``sqrt(E[u^2 phi'(u)^2])``."""
        return abs(self.factor) * self.inner.gain_root(r)

    def inner_rows(self, r: Rows) -> Rows:
        """The same: it is the value that is scaled."""
        return r

    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        """The inner kernel without the inner means, with the new ones."""
        inner, own = inner_law(law), super().angle(law, angle)
        if self.shift == 0.0:
            return own
        deviation = inner.root.map(safe.deviation, inner.mean)
        around = angles.spread(
            deviation.map(safe_divide, inner.root), inner.mean.map(safe_divide, inner.root), own
        )
        share = (deviation * abs(self.factor)).map(safe_divide, law.root)
        rest = law.mean.map(lambda mean, root: safe_divide(mean.abs(), root), law.root)
        return angles.mix(share, around, rest, angles.of_signs(law.mean.map(torch.sign)))
