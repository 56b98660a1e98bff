"""Activations that are made of another one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

from torch import Tensor

from farfield.infinite.angles import Angle
from farfield.infinite.duals.base import Activation, RowLaw
from farfield.infinite.pairs import Rows


class Derived(Activation):
    """What is asked of pairs is asked of the inner activation, with the inner law of the rows.

    Attributes:
        inner: The activation.
    """

    inner: Activation

    @abstractmethod
    def inner_rows(self, r: Rows) -> Rows:
        """The standard deviations of the inner activation's argument."""

    def rows(self, r: Rows) -> RowLaw:
        """The moments of each row, and those of the inner activation."""
        return replace(super().rows(r), inner=self.inner.rows(self.inner_rows(r)))

    def angle(self, law: RowLaw, angle: Angle) -> Angle:
        """The angle of phi(u) and phi(v)."""
        return self.inner.angle(inner_law(law), angle)

    def slope(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[phi'(u) phi'(v)]`` over the slope roots."""
        return self.inner.slope(inner_law(law), angle)

    def gain(self, law: RowLaw, angle: Angle) -> Tensor:
        """``E[u v phi'(u) phi'(v)]`` over the gain roots."""
        return self.inner.gain(inner_law(law), angle)


def inner_law(law: RowLaw) -> RowLaw:
    """The law of the inner activation."""
    assert law.inner is not None
    return law.inner
