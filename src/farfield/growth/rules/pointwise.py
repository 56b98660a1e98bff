"""A function of each entry, applied to what is known of a value."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from farfield.growth.bound_tensor import BoundTensor
from farfield.growth.curves import Bend, Curve
from farfield.growth.dual import refine
from farfield.growth.graph import Pointwise

SLACK = 2e-15  # absolute error of a smooth function near its zeros


def apply(x: BoundTensor, curve: Curve) -> BoundTensor:
    """A function of each entry.

    The interval of its argument is tightened first: everything above depends on it.
    """
    node = x.node
    refine(node)
    lower, upper = curve.interval(node.lower, node.upper)
    degree = curve.degree(node.lower, node.upper, node.degree)
    new = x.reading.add(curve.name, lower, upper, degree, Pointwise(curve), [node])
    return BoundTensor(new, x.reading)


def smooth(
    function: Callable[[Tensor], Tensor],
    name: str,
    left: float | int,
    right: float | int,
    bend: Bend | None,
    **options: float | int | tuple[float | int, ...] | tuple[float | int, float | int, float | int],
) -> Curve:
    """A curve whose values are rounded near its zeros."""
    return Curve(name, function, left, right, bend=bend, slack=SLACK, **options)  # type: ignore[arg-type]
