"""Products of Gram matrices: of what went into linear maps, and of what came back to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from farfield.empirical.costs import Pair
from farfield.empirical.factors import Factor, Lookup, Outer, signals_of
from farfield.empirical.workspace import Take


def add_product(place: Tensor, values: Tensor | float, product: Tensor) -> None:
    """Add a Gram matrix of signals (n1, n2) times one of what went in (1, n1, n2), in one pass."""
    if isinstance(values, float):
        place.add_(product, alpha=values)
    else:
        place.addcmul_(product, values[0])


def add_full_single(
    place: Tensor, values: Tensor | float, first: Tensor, second: Tensor, take: Take
) -> None:
    """Add the kernel of a map at one position.

    Args:
        place: Where to add, (n1, o, n2 o).
        values: Gram matrices of what went in, (groups, n1, n2).
        first: Signals of the rows, (n1, o, groups, 1, rows).
        second: Signals of the columns.
        take: Memory for an intermediate array.
    """
    n1, outputs, groups = first.shape[:3]
    n2 = second.shape[0]
    left = first.movedim(2, 0).reshape(groups, n1 * outputs, -1)
    right = second.movedim(2, 0).reshape(groups, n2 * outputs, -1)
    product = take((groups, n1 * outputs, n2 * outputs), left)
    product = torch.bmm(left, right.mT, out=product).view(groups, n1, outputs, -1)
    if isinstance(values, float):
        place.add_(product[0] if groups == 1 else product.sum(0), alpha=values)
        return
    repeated = values.repeat_interleave(outputs, 2).unsqueeze(2)  # (g, n1, 1, n2 o)
    for group in range(groups):
        place.addcmul_(product[group], repeated[group])


def written_full(
    target: Tensor, values: Tensor | float, first: Tensor, second: Tensor, take: Take
) -> None:
    """Add the kernel of a map at several positions, one direction of the rows at a time.

    Args:
        target: Where to add, (n1, o, n2, o).
        values: Gram matrices of what went in, (groups, n1 t1, n2 t2).
        first: Signals of the rows, (n1, o, groups, t1, rows).
        second: Signals of the columns.
        take: Memory for an intermediate array.
    """
    n1, outputs, groups, t1, rows = first.shape
    n2, t2 = second.shape[0], second.shape[3]
    if isinstance(values, float):
        values = first.new_full((groups, n1 * t1, n2 * t2), values)
    turned = values.view(groups * n1, t1, n2 * t2).mT
    right = second.reshape(n2, outputs, groups * t2 * rows).mT
    mixed = take((groups * n1, n2 * t2, rows), first)
    for direction in range(outputs):
        # For each i: sum over its positions t of the column of values times signal_it.
        signals = first[:, direction].transpose(0, 1).reshape(groups * n1, t1, rows)
        torch.bmm(turned, signals, out=mixed)
        # For each j: sum over its positions, the rows and the groups.
        left = mixed.view(groups, n1, n2, t2 * rows).permute(2, 1, 0, 3)
        target[:, direction] += (left.reshape(n2, n1, -1) @ right).transpose(0, 1)


def value_gram(cluster: Sequence[Pair], rows: slice, columns: slice) -> Tensor | float:
    """The weighed Gram matrices of what went in, (groups, n1 t1, n2 t2)."""
    ones = [p for p in cluster if isinstance(p.left, Outer) and p.left.values is None]
    constant = float(sum(pair.weight for pair in ones))
    total = None
    for pair in cluster:
        left, right = pair.left, pair.right
        if isinstance(left, Lookup) and isinstance(right, Lookup):
            first, second = left.tokens[rows].reshape(-1, 1), right.tokens[columns].reshape(1, -1)
            met = (first == second) & (first >= 0)
            return met.to(left.signals.dtype).unsqueeze(0) * pair.weight
        if not isinstance(left, Outer) or not isinstance(right, Outer):
            raise AssertionError("factors of one cluster are alike")
        if left.values is None or right.values is None:
            continue
        first, second = _stacked(left.values[rows]), _stacked(right.values[columns])
        start = total if total is not None else first.new_full((1, 1, 1), constant)
        total = torch.baddbmm(start, first, second.mT, alpha=pair.weight)
    return constant if total is None else total


def _stacked(values: Tensor) -> Tensor:
    """(n, g, t, c) -> (g, n t, c)."""
    n, groups, positions, columns = values.shape
    return values.transpose(0, 1).reshape(groups, n * positions, columns)


def spread_rows(signals: Tensor) -> Tensor:
    """(n, o, g, t, r) -> (g, n t, o r)."""
    n, outputs, groups, positions, rows = signals.shape
    ordered = signals.permute(2, 0, 3, 1, 4)
    return ordered.reshape(groups, n * positions, outputs * rows)


def grouped(factor: Factor) -> Tensor:
    """Signals as (n, o, groups, positions, rows)."""
    signals = signals_of(factor)
    return signals.unsqueeze(2) if isinstance(factor, Lookup) else signals
