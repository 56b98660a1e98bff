r"""Products of Jacobians with directions and with weights, from what each use has seen.

A use of a parameter has the gradients ``g = sum_t s_t (x) v_t`` (a linear map at positions t, of
what came back and what went in). Along K directions D_k of the parameter they are either

``g . D_k = sum_t s_t . (D_k v_t)``, which takes ``T c (r + O)`` operations for each of K and

``g . D_k`` with g written out, ``r c O (T + K)`` in all,

with T positions, r x c entries and O outputs. The smaller one is taken. The model runs once, and
what came back takes a pass for each output. Forward mode takes a run of the model and two products
for each direction instead, whatever the number of outputs.

The other way round, K weighed sums of all gradients take ``r c O (T + K)`` operations for each
sample with the gradients written out, and one backward pass, not K.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

import torch
from torch import Tensor

from farfield.empirical.factors import Factor, Lookup, Outer, entries, signals_of
from farfield.empirical.gradients import Gradients
from farfield.empirical.own import part_rows

_AT_ONCE = 2**22  # numbers of an intermediate result: more leave the cache
_FORWARD = 3.0  # products of a layer that forward mode takes for each direction


@torch.no_grad()
def projected(gradients: Gradients, directions: Mapping[str, Tensor]) -> Tensor:
    """Derivatives of the outputs along directions of the parameters, ``J d``.

    Args:
        gradients: Of some samples.
        directions: Name of a parameter -> K directions, (K, *shape of the parameter).

    Returns:
        (n, o, K)
    """
    number = len(next(iter(directions.values())))
    total = gradients.like.new_zeros(gradients.samples, gradients.directions, number)
    for name, factor in _factors(gradients):
        total += _along(factor, directions[name])
    return total


@torch.no_grad()
def add_weighed(
    total: Mapping[str, Tensor], gradients: Gradients, weights: Tensor, scratch: int
) -> None:
    """Add sums of gradients over samples and outputs, ``J' w``.

    Args:
        total: Name of each parameter -> where to add, (K, *shape of the parameter).
        gradients: Of some samples.
        weights: (n, o, K)
        scratch: Bytes for gradients written out.
    """
    for name, factor in _factors(gradients):
        sums = total[name]
        _add_weighed(sums.view(len(sums), -1), factor, weights, scratch)


def backwards_pays(gradients: Gradients, number: int) -> bool:
    """Whether :func:`projected` takes fewer operations than forward mode.

    Args:
        gradients: Of some samples.
        number: K.

    Returns:
        No, if a parameter is taken the slow way.
    """
    if gradients.slow:
        return False
    run, products = 0.0, 0.0
    for _, factor in _factors(gradients):
        if isinstance(factor, Outer) and factor.values is not None:
            run += factor.groups * factor.positions * factor.rows * factor.columns
        products += min(_costs(factor, number))
    return run * (1 + gradients.directions) + products < _FORWARD * number * run


def _factors(gradients: Gradients) -> Iterator[tuple[str, Factor]]:
    """Each use's gradients, with their entries where the parameter has them."""
    yield from gradients.slow.items()
    block = gradients.block
    for name in block.plan.fast:
        for factor in block.leaf_factors(name):
            yield name, factor


def _costs(factor: Factor, number: int) -> tuple[float, float]:
    """Operations for a sample, from what came back and went in, and from gradients written out."""
    directions = signals_of(factor).shape[1]
    if isinstance(factor, Outer) and factor.values is not None:
        sides = factor.groups * factor.rows * factor.columns
        apart = factor.groups * factor.positions * factor.rows * (factor.columns + directions)
        return float(apart * number), float(sides * directions * (factor.positions + number))
    if isinstance(factor, Lookup):
        return float(prod(factor.signals.shape[1:]) * number), float("inf")
    return float("inf"), float(entries(factor) * directions * number)


def _along(factor: Factor, directions: Tensor) -> Tensor:
    """``g . D_k``, (n, o, K)."""
    apart, written = _costs(factor, len(directions))
    if isinstance(factor, Outer) and apart < written:
        return _in_groups(factor, directions)
    if isinstance(factor, Lookup):
        return _read(factor, directions)
    return factor.dense() @ directions.reshape(len(directions), -1).mT


def _add_weighed(total: Tensor, factor: Factor, weights: Tensor, scratch: int) -> None:
    """Add ``sum_i w_ik g_i`` to (K, entries)."""
    if isinstance(factor, Lookup):
        tokens = torch.where(factor.tokens >= 0, factor.tokens, factor.rows).flatten()
        for place, column in zip(total, weights.unbind(2), strict=True):
            read = torch.einsum("no,notc->ntc", column, factor.signals).flatten(0, 1)
            table = read.new_zeros(factor.rows + 1, read.shape[1]).index_add_(0, tokens, read)
            place += table[: factor.rows].flatten()
        return
    flat = weights.flatten(0, 1).mT
    if not isinstance(factor, Outer):
        total += flat @ factor.dense().flatten(0, 1)
        return
    sides = (factor.rows, factor.columns)
    if factor.transposed:
        places = total.view(len(total), factor.groups, *reversed(sides)).mT
    else:
        places = total.view(len(total), factor.groups, *sides)
    ordered = factor.in_product_order()
    step = part_rows(factor, scratch)
    for start in range(0, factor.rows, step):
        rows = slice(start, start + step)
        part = ordered.part(rows)
        sums = flat @ part.dense().flatten(0, 1)
        sides = (part.columns, part.rows) if part.transposed else (part.rows, part.columns)
        sums = sums.view(len(total), factor.groups, *sides)
        places[:, :, rows] += sums.mT if part.transposed else sums


def _in_groups(factor: Outer, directions: Tensor) -> Tensor:
    """``sum_t s_t . (D_k v_t)``, some directions at a time."""
    if factor.values is None:
        raise AssertionError("biases are written out")
    shape = (factor.groups, factor.rows, factor.columns)
    if factor.transposed:
        maps = directions.view(-1, factor.groups, factor.columns, factor.rows).mT
    else:
        maps = directions.view(-1, *shape)
    each = len(factor.values) * factor.groups * factor.positions * factor.rows
    parts = []
    for some in maps.split(max(1, _AT_ONCE // max(1, each))):
        moved = torch.einsum("ngtc,kgrc->ngtkr", factor.values, some)
        parts.append(torch.einsum("nogtr,ngtkr->nok", factor.signals, moved))
    return torch.cat(parts, 2)


def _read(factor: Lookup, directions: Tensor) -> Tensor:
    """``sum_t s_t . D_k[token_t]``; what is read from a row below 0 does not count."""
    known = (factor.tokens >= 0).unsqueeze(-1)
    tables = directions.view(len(directions), factor.rows, -1)
    columns = []
    for table in tables:
        rows = torch.where(known, table[factor.tokens.clamp_min(0)], 0.0)
        columns.append(torch.einsum("notc,ntc->no", factor.signals, rows))
    return torch.stack(columns, 2)
