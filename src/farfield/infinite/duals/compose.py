"""Functions of functions, and where they bend."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.closed import closed_form
from farfield.infinite.duals.numeric import Numeric
from farfield.infinite.duals.rectified import Rectified
from farfield.infinite.duals.stretched import stretched

_BISECTIONS = 80


def composed(
    outer: Activation, exact: Callable[[Tensor], Tensor], inner: Activation, name: str
) -> Activation:
    """``exact(inner(u))``, in closed form if there is one.

    Else by quadrature; it bends where ``inner`` does and where it crosses outer's bends.

    Args:
        outer: The dual activation of the outer function, for its bends.
        exact: The outer function.
        inner: The inner function.
        name: What the outer function is called in messages.

    Returns:
        The function of u.
    """
    if (closed := _in_closed_form(outer, exact, inner)) is not None:
        return closed
    bends = {*inner.kinks}
    for level in outer.kinks:
        bends.update(crossings(inner.value, level))
    return Numeric(lambda u: exact(inner.value(u)), bends, name)


def _in_closed_form(
    outer: Activation, exact: Callable[[Tensor], Tensor], inner: Activation
) -> Activation | None:
    if isinstance(inner, Rectified) and inner.is_linear:
        return stretched(outer, inner.positive)
    if inner.halves is None:
        return None
    if outer.halves is None:
        return outer.after(inner.halves)
    at_zero = float(exact(torch.zeros((), dtype=torch.float64)))
    both = outer.halves.after(inner.halves, at_zero)
    return None if both is None else closed_form(both)


def crossings(function: Callable[[Tensor], Tensor], level: float) -> list[float]:
    """Where a function crosses a level, found on a grid over +-1e4 and refined by bisection.

    Example:
        >>> import torch
        >>> [round(u, 12) for u in crossings(torch.exp, 1.0)]
        [0.0]
    """
    positive = torch.logspace(-6, 4, 4001, dtype=torch.float64)
    grid = torch.cat([-positive.flip(0), positive.new_zeros(1), positive])
    with torch.no_grad():
        above = function(grid) > level
        change = (above[1:] != above[:-1]).nonzero().flatten()
        low, high, start = grid[change], grid[change + 1], above[change]
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            same = (function(middle) > level) == start
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    return [float(point) for point in 0.5 * (low + high)]
