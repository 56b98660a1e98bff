"""Bounds of networks of few inputs: all inputs are cut into cells, the worst ones into smaller.

Branch and bound, as in Bunel et al., "A Unified View of Piecewise Linear Neural Network
Verification" (NeurIPS 2018): a bound of each cell, the largest of which bounds the network; the
cells whose bound is farthest from what was found are cut in two, until none is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from farfield.growth import forms
from farfield.growth.cells import Cells, cover, join
from farfield.growth.domain import Domain
from farfield.growth.forms import Form
from farfield.growth.graph import Affine, Ball, Free, Node, Pointwise

_MOST_INPUTS = 3  # with more, no number of cells that can be afforded is enough
_CLOSE = 1e-2  # relative to the largest value found; nearer, a cell is not cut any more
_WORK = 1e10  # products of all cells together
_TOGETHER = 2_000_000  # entries of the largest array
_CUT = 128  # cells that are cut at a time

Seen = Callable[[Tensor], tuple[Tensor, Tensor]]


def tighten(outputs: Sequence[Node], domain: Domain, seen: Seen, most_cells: int) -> None:
    """Tighten the intervals of bounded outputs by branch and bound over the inputs.

    Args:
        outputs: The outputs, all of them bounded.
        domain: Which inputs there are.
        seen: Evaluates the model at inputs (k, *shape); the least and the largest value of each
            output of all that were found so far, flattened.
        most_cells: How many cells to make at most, large and small together.
    """
    order = _below(outputs)
    if domain.vocabulary or domain.lower.numel() > _MOST_INPUTS or not _follows(order, outputs):
        return
    allowed = min(most_cells, _WORK / _cost(order, domain.lower.numel()))
    chunk = max(1, _TOGETHER // _entries(order, domain.lower.numel()))
    cells = cover(domain)
    low, high = _bounds(order, outputs, cells, chunk)
    made = len(cells)
    while made < allowed:
        least, most = seen(cells.points().reshape(-1, *domain.shape)[-2 * _CUT :])
        gap = torch.maximum(high - most, least - low).amax(1)
        gap = torch.where(cells.can_be_cut, gap, -math.inf)
        open_ = gap > _CLOSE * float(torch.maximum(least.abs(), most.abs()).max())
        count = min(int(open_.sum()), _CUT)
        if not count:
            break
        chosen = torch.zeros(len(cells), dtype=torch.bool)
        chosen[gap.topk(count).indices] = True
        parts = cells.rows(chosen).halves()
        new_low, new_high = _bounds(order, outputs, parts, chunk)
        # A part is bounded by what bounds the whole.
        low = torch.cat([low[~chosen], torch.maximum(new_low, low[chosen].repeat(2, 1))])
        high = torch.cat([high[~chosen], torch.minimum(new_high, high[chosen].repeat(2, 1))])
        cells = join([cells.rows(~chosen), parts])
        made += len(parts)
    start = 0
    for node in outputs:
        stop = start + node.lower.numel()
        node.tighten(
            low[:, start:stop].amin(0).reshape(node.shape),
            high[:, start:stop].amax(0).reshape(node.shape),
        )
        start = stop


def _bounds(
    order: Sequence[Node], outputs: Sequence[Node], cells: Cells, chunk: int
) -> tuple[Tensor, Tensor]:
    """Least and largest value of each output on each cell: (K, outputs)."""
    lows, highs = [], []
    for rows in torch.arange(len(cells)).split(chunk):
        known = _propagate(order, cells.rows(rows))
        ends = [known[node.index] or _flat(node, len(rows), 0) for node in outputs]
        lows.append(torch.cat([end.low.flatten(1) for end in ends], 1))
        highs.append(torch.cat([end.high.flatten(1) for end in ends], 1))
    low, high = torch.cat(lows), torch.cat(highs)
    # What is no number says nothing.
    least = torch.cat([node.lower.flatten() for node in outputs])
    most = torch.cat([node.upper.flatten() for node in outputs])
    return torch.where(low.isnan(), least, low), torch.where(high.isnan(), most, high)


def _propagate(order: Sequence[Node], cells: Cells) -> dict[int, Form | None]:
    """The form of each value, times rho where the value is unbounded; nothing if unknown."""
    known: dict[int, Form | None] = {}
    for node in order:
        below = () if isinstance(node.step, Free) else node.parents
        parents = [(parent, known[parent.index]) for parent in below]
        known[node.index] = _form(node, parents, cells)
    return known


def _form(node: Node, parents: Sequence[tuple[Node, Form | None]], cells: Cells) -> Form | None:
    count, sides = cells.half.shape
    step = node.step
    below = [value for _, value in parents if value is not None]
    result = None
    if isinstance(step, Free):
        if step.is_input:
            result, _ = cells.forms(node.shape)
    elif len(below) == len(parents):
        result = _stepped(node, [parent for parent, _ in parents], below, cells)
    if not node.is_bounded:
        return result
    if result is None:
        return _flat(node, count, sides)
    return result.within(node.lower, node.upper)


def _stepped(
    node: Node, parents: Sequence[Node], below: Sequence[Form], cells: Cells
) -> Form | None:
    """One step, or nothing where it has no form."""
    step = node.step
    _, rho = cells.forms((len(cells.shift),))
    one = forms.one(rho)
    grows = [not parent.is_bounded for parent in parents]
    if isinstance(step, Affine):
        if node.is_bounded:
            return None if any(grows) else forms.affine(step, below, one)
        lifted = [
            value if high else forms.times(value, rho)
            for value, high in zip(below, grows, strict=True)
        ]
        return forms.affine(step, lifted, rho)
    if isinstance(step, Ball):
        return None if step.eps is None else forms.on_ball(step, below[0], rho if grows[0] else one)
    assert isinstance(step, Pointwise)
    if not grows[0]:
        return forms.function(step.curve, below[0]) if node.is_bounded else None
    if node.is_bounded:
        return forms.bounded_function(step.curve, below[0], rho)
    if step.curve.asymptotes is None:
        return None
    return forms.scaled_function(step.curve, below[0], rho)


def _flat(node: Node, count: int, sides: int) -> Form:
    """Only the interval that is known everywhere."""
    shape = (count, *node.shape)
    return forms.interval(node.lower.expand(shape), node.upper.expand(shape), sides)


def _below(outputs: Sequence[Node]) -> list[Node]:
    """The outputs and all they are made of, the first one first."""
    found = {node.index: node for node in outputs}
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        for parent in () if isinstance(node.step, Free) else node.parents:
            if parent.index not in found:
                found[parent.index] = parent
                waiting.append(parent)
    return [found[index] for index in sorted(found)]


def _follows(order: Sequence[Node], outputs: Sequence[Node]) -> bool:
    """Whether the forms of the outputs depend on the cell at all."""
    cells: dict[int, bool] = {}
    for node in order:
        step, parents = node.step, () if isinstance(node.step, Free) else node.parents
        steps = [cells[parent.index] for parent in parents]
        if isinstance(step, Free):
            cells[node.index] = step.is_input
        elif isinstance(step, Ball) and step.eps is None:
            cells[node.index] = False
        else:
            cells[node.index] = any(steps)
    return any(cells[node.index] for node in outputs)


def _cost(order: Sequence[Node], sides: int) -> float:
    """Products for one cell, roughly."""
    each = 0.0
    for node in order:
        terms = 2 * node.step.terms if isinstance(node.step, Affine) else 60
        each += float(terms) * node.lower.numel()
    return each * (sides + 2)


def _entries(order: Sequence[Node], sides: int) -> int:
    return max(node.lower.numel() for node in order) * (sides + 2) * 2
