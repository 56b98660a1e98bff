"""Units together with one known number for each input, such as a mean over the units."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from farfield.infinite.gram import Tangent, Unknown, product, total
from farfield.infinite.laws import (
    IDENTITY,
    Data,
    Mixed,
    Pointwise,
    finite,
    gaussian_of,
    mixed,
)
from farfield.infinite.limit_tensor import LimitTensor
from farfield.infinite.pairs import Rows


def rows_of(a: LimitTensor, b: LimitTensor) -> tuple[LimitTensor, Rows, Tangent | None] | None:
    """Which of two tensors are units, and which are numbers (n, *positions, 1) beside them.

    Returns:
        The units, the numbers, (*positions, n), and what is known of their tangent; or ``None``.
    """
    for units, other in [(a, b), (b, a)]:
        law, shape = other.law, (*units.shape[:-1], 1)
        if isinstance(law, Data) and not isinstance(units.law, Data) and other.shape == shape:
            return units, law.x.map(_row), Unknown(law.error) if law.error else None
    return None


def stretched_by(x: LimitTensor, factor: Rows, unknown: Tangent | None) -> LimitTensor:
    """Units times numbers of either sign: ``K <- c c' K``, and so the tangent."""
    by, base = product(factor), gaussian_of(x.law)
    below = base or mixed(x.law)
    above = None if below.tangent is None else below.tangent.times(by.plain())
    tangent = total([above, unknown])
    if base is not None:
        units = replace(base.map(lambda gram: gram.times(by)), tangent=tangent)
        return x.with_law(Pointwise(units, IDENTITY))
    moments = mixed(x.law)
    gram, mean = moments.gram.times(by), moments.mean * factor
    law = Mixed(gram, mean, tangent, moments.sources, lambda: moments.covariance().times(by))
    return x.with_law(law)


def moved_by(x: LimitTensor, shift: Rows, unknown: Tangent | None) -> LimitTensor:
    """Units plus numbers: the means move."""
    moves = any(bool(side.any()) or side.requires_grad for side in (shift.left, shift.right))
    if unknown is None and not moves:
        return x.with_law(x.law)
    below = mixed(x.law)
    units = replace(below, tangent=total([below.tangent, unknown]))
    return x.with_law(units.around(below.mean.map(torch.add, shift)))


def _row(x: Tensor) -> Tensor:
    return finite(x)[..., 0].movedim(0, -1)
