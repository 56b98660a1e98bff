"""Matrix products of samples with a weight."""

from __future__ import annotations

from torch import Tensor

from farfield.empirical.factors import Factor, Outer
from farfield.empirical.rules.table import Case, rule, spread


@rule("Addmm")
def addmm(case: Case) -> Factor | None:
    """``beta bias + alpha left @ right``."""
    if case.position == 0:
        return spread(case, float(case.node._saved_beta))
    left, right = case.node._saved_mat1, case.node._saved_mat2
    factor = _product(case, case.position - 1, left, right)
    return factor and factor.scaled(float(case.node._saved_alpha))


@rule("Mm")
def mm(case: Case) -> Factor | None:
    """``left @ right``."""
    return _product(case, case.position, case.node._saved_self, case.node._saved_mat2)


@rule("Bmm")
def bmm(case: Case) -> Factor | None:
    """``left @ right`` for each of several matrices."""
    return _product(case, case.position, case.node._saved_self, case.node._saved_mat2)


@rule("Baddbmm")
def baddbmm(case: Case) -> Factor | None:
    """``beta bias + alpha left @ right`` for each of several matrices."""
    if case.position == 0:
        return spread(case, float(case.node._saved_beta))
    left, right = case.node._saved_batch1, case.node._saved_batch2
    factor = _product(case, case.position - 1, left, right)
    return factor and factor.scaled(float(case.node._saved_alpha))


@rule("Mv")
def mv(case: Case) -> Factor | None:
    """``matrix @ vector``, where the vector is the parameter."""
    if case.position != 1 or case.layout.axis != 0:
        return None
    values = case.values(case.node._saved_self).unsqueeze(1)
    return Outer(values, case.signals()[:, :, None, :, None])


def _product(case: Case, position: int, left: Tensor | None, right: Tensor | None) -> Outer | None:
    """Gradients of the left (position 0) or right factor of (groups) matrix products."""
    rows_axis = case.signal.ndim - 3  # of what the node computed, without the directions
    if position == 1 and case.layout.axis == rows_axis and left is not None:
        values, signals = case.values(left), case.signals()  # (n, [g], t, p), (n, o, [g], t, q)
    elif position == 0 and case.layout.axis == rows_axis + 1 and right is not None:
        values, signals = case.values(right).mT, case.signals().mT
    else:
        return None
    if values.ndim == 3:
        values, signals = values.unsqueeze(1), signals.unsqueeze(2)
    return Outer(values, signals, transposed=position == 1)
