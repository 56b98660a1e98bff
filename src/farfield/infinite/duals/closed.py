"""Which dual activation a function has that is a polynomial on each half line."""

from __future__ import annotations

from farfield.infinite.duals.affine import Affine
from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.halves import Halves
from farfield.infinite.duals.polynomial import HIGHEST, Polynomial
from farfield.infinite.duals.powers import Power
from farfield.infinite.duals.rectified import Rectified, Step


def closed_form(halves: Halves) -> Activation | None:
    """The dual activation of a function, if it has one in closed form.

    A single power has one whatever its coefficients are on the two sides, a sum of powers only
    if it is the same polynomial on both.

    Example:
        >>> cubes = Halves.power(1) * Halves.power(2)
        >>> closed_form(cubes)
        Power(degree=3, negative=-1.0, positive=1.0)
        >>> closed_form(cubes + Halves.of([0.0], [0.0, 1.0])) is None
        True
    """
    if halves.degree > HIGHEST:
        return None
    degrees = halves.degrees
    if not degrees:
        return Rectified(0.0, 0.0)
    if len(degrees) == 1:
        degree = degrees[0]
        negative, positive = halves.coefficients(degree)
        if degree == 0 and not halves.is_polynomial:
            return Step(negative, positive)
        if degree == 1:
            return Rectified(negative, positive)
        if degree > 1:
            return Power(degree, (-1.0) ** degree * negative, positive)
    if halves.is_polynomial:
        return Polynomial(halves.positive)
    shift, other = halves.coefficients(0)
    if shift == other != 0.0 and (inner := closed_form(halves.affine(1.0, -shift))):
        return Affine(inner, 1.0, shift)
    return None


def affine(inner: Activation, factor: float, shift: float) -> Activation:
    """``factor * inner(u) + shift``, as simply as it can be written."""
    if inner.halves is not None and (closed := closed_form(inner.halves.affine(factor, shift))):
        return closed
    if isinstance(inner, Affine):
        return Affine(inner.inner, factor * inner.factor, factor * inner.shift + shift)
    return Affine(inner, factor, shift)
