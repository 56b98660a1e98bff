r"""Bounds of linear functions of a value, by going back through the graph.

A linear function ``a . y`` of a value y has an upper bound for every choice of the numbers below:

- of an affine step, ``a . (W x + b) = (W^T a) . x + a . b``;
- of a function phi of each entry, for any slopes m,
  ``a phi(x) <= (a m) x + max over [l, u] of (a phi(x) - a m x)``,
  where the maximum is taken unit by unit on a grid, with the error between the points added;
- of a normalised vector ``g t + b`` with |t| <= r, ``a . b + max of (a g) . t``, exactly;
- of a function of a normalised vector, for any lambda >= 0, the maximum over each unit of
  ``a phi(x) - a m x - lambda t^2``, plus ``lambda r^2``: Lagrange's dual of "|t| <= r". Without
  it each unit alone could be as large as r, and the bound would be too large by sqrt(n).

The slopes and lambdas are improved by gradient steps (Adam); every one of them gives a bound, and
the least is kept. This is the dual of Dvijotham et al. (2018), with slopes as in alpha-CROWN (Xu
et al., 2021) and balls as anchors.

Rounding is counted in a last pass: a coefficient is off by no more than ``gamma |a| |W|``, which is
multiplied by the largest size of what it stands before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from farfield.growth.curves import Grid
from farfield.growth.graph import Affine, Ball, Free, Node, Pointwise, length
from farfield.growth.intervals import finite, largest, rounding, support, times

_STEPS = 60
_RATE = 0.15
_PATIENCE = 10  # gradient steps that must gain something
_GAIN = 1e-4
_BUDGET = 4_000_000  # entries of the largest array of a pass; more rows are done in parts
_WORK = 4_000_000_000  # entries of all passes together; beyond, fewer gradient steps are made


@dataclass(eq=False)
class _Unit:
    """A pointwise node of the graph, prepared: its grid, and the ball it stands on, if any."""

    node: Node
    grid: Grid
    linear: Tensor
    ball: Ball | None
    start: Tensor

    @property
    def below(self) -> Node:
        return self.node.parents[0]


@dataclass(eq=False)
class Backward:
    """The part of a graph below one node, ready to bound linear functions of it.

    Attributes:
        target: The node.
    """

    target: Node
    _order: list[Node] = field(init=False)
    _units: dict[int, _Unit] = field(init=False)

    def __post_init__(self) -> None:
        self._order = _below(self.target)
        self._units = {
            node.index: prepared
            for node in self._order
            if isinstance(node.step, Pointwise) and (prepared := _prepare(node)) is not None
        }

    def upper(self, rows: Tensor, steps: int = _STEPS) -> Tensor:
        """Upper bounds of linear functions of the target.

        Args:
            rows: Their coefficients, (k, *shape).
            steps: How many gradient steps to make.

        Returns:
            The bounds, (k,), rounding included; infinite where nothing is known.
        """
        if not len(rows):
            return rows.new_zeros(0)
        size = max([self.target.lower.numel(), *map(_entries, self._units.values())])
        total = len(rows) * sum(map(_entries, self._units.values()))
        steps = min(steps, _WORK // max(total, 1)) if self._units else 0
        chunk = max(1, _BUDGET // size)
        return torch.cat([self._improved(part, steps) for part in rows.split(chunk)])

    def _improved(self, rows: Tensor, steps: int) -> Tensor:
        slopes, weights = self._start(rows)
        best = [x.detach().clone() for x in (*slopes.values(), *weights.values())]
        values = before = rows.new_full((len(rows),), math.inf)
        parameters = [x.requires_grad_() for x in (*slopes.values(), *weights.values())]
        if parameters:
            optimiser = torch.optim.Adam(parameters, lr=_RATE)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
            for step in range(steps + 1):
                with torch.enable_grad():
                    found, _ = self._pass(rows, slopes, weights, audit=False)
                better = found < values
                if step % _PATIENCE == 0:
                    if _settled(before, values):
                        break
                    before = values
                values = torch.where(better, found.detach(), values)
                for kept, now in zip(best, parameters, strict=True):
                    shape = (-1, *(1,) * (now.ndim - 1))
                    kept.copy_(torch.where(better.reshape(shape), now.detach(), kept))
                total = found[found.isfinite()].sum()
                if step < steps and total.requires_grad:
                    optimiser.zero_grad()
                    total.backward()
                    for parameter in parameters:
                        if parameter.grad is not None:
                            parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
                    optimiser.step()
                    schedule.step()
        count = len(slopes)
        chosen = dict(zip(slopes, best[:count], strict=True))
        lagrange = dict(zip(weights, best[count:], strict=True))
        with torch.no_grad():
            found, size = self._pass(rows, chosen, lagrange, audit=True)
        return found + size

    def _start(self, rows: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Slopes of the chords; lambdas for which a ball alone would be bounded best."""
        count = (len(rows),)
        slopes = {
            index: unit.start.expand(count + unit.start.shape).clone()
            for index, unit in self._units.items()
        }
        weights: dict[int, Tensor] = {}
        if any(unit.ball is not None for unit in self._units.values()):
            with torch.no_grad():
                self._pass(rows, slopes, weights, audit=False)
        return slopes, weights

    def _pass(
        self,
        rows: Tensor,
        slopes: dict[int, Tensor],
        weights: dict[int, Tensor],
        *,
        audit: bool,
    ) -> tuple[Tensor, Tensor]:
        """The bounds for these slopes and (logarithms of) lambdas, and their rounding."""
        coefficients = {self.target.index: rows}
        bound = rows.new_zeros(len(rows))
        margin = rows.new_zeros(len(rows))
        for node in self._order:
            a = coefficients.pop(node.index, None)
            if a is None:
                continue
            step = node.step
            if isinstance(step, Affine):
                bound = bound + (a * step.offset).flatten(1).sum(1)
                parts = pull(step, node.parents, a)
                if audit:
                    margin = margin + _affine_rounding(step, node, a)
            elif (unit := self._units.get(node.index)) is not None:
                value, below = self._through(unit, a, slopes, weights)
                bound, parts = bound + value, [below]
                if audit:
                    margin = margin + _unit_rounding(unit, a, below, weights.get(node.index))
            else:
                bound, parts = bound + _end(node, a), []
                if audit:
                    margin = margin + rounding(node.lower.numel()) * _weighed(a, node)
            for parent, part in zip(node.parents, parts, strict=False):
                known = coefficients.get(parent.index)
                coefficients[parent.index] = part if known is None else known + part
        return bound, margin

    def _through(
        self, unit: _Unit, a: Tensor, slopes: dict[int, Tensor], weights: dict[int, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Replace a function by lines: the constant part, and the coefficients below."""
        index = unit.node.index
        below = torch.where(unit.linear, a * slopes[index], 0.0)
        fixed = support(torch.where(unit.linear, 0.0, a), unit.node.lower, unit.node.upper)
        inside = torch.where(unit.linear, a, 0.0)
        if unit.ball is None:
            return fixed + _highest(unit.grid, inside, below).flatten(1).sum(1), below
        if index not in weights:  # the first pass, which tells how large the rows are here
            weights[index] = _guess(unit.ball, a)
        weight = weights[index].exp()
        value = _highest_on_ball(unit.grid, unit.ball, inside, below, weight, unit.linear)
        return fixed + value + (weight * unit.ball.radius.square()).sum(1), below


def refine(node: Node, most_rows: int = 1024) -> None:
    """Tighten the interval of a value by going back through the graph.

    Args:
        node: The value; its interval may be infinite in part, and that part stays as it is.
        most_rows: Values with more units than half of this are left alone.
    """
    if node.refined or isinstance(node.step, Ball) or not node.parents:
        return
    node.refined = True
    units = node.bounded.flatten().nonzero().flatten()
    if not len(units) or 2 * len(units) > most_rows:
        return
    if isinstance(node.step, Affine) and all(isinstance(p.step, Free) for p in node.parents):
        return  # the interval is exact already
    backward = Backward(node)
    count = node.lower.numel()
    rows = torch.zeros(2 * len(units), count, dtype=torch.float64)
    positions = torch.arange(len(units))
    rows[positions, units] = 1.0
    rows[len(units) + positions, units] = -1.0
    found = backward.upper(rows.reshape(-1, *node.shape))
    lower = torch.full((count,), -math.inf, dtype=torch.float64)
    upper = torch.full((count,), math.inf, dtype=torch.float64)
    upper[units], lower[units] = found[: len(units)], -found[len(units) :]
    node.tighten(lower.reshape(node.shape), upper.reshape(node.shape))


def pull(
    step: Affine, parents: Sequence[Node], rows: Tensor, *, sizes: bool = False
) -> list[Tensor]:
    """``W^T a`` for each row a, for each parent; with ``sizes`` of the absolute coefficients."""
    function = step.absolute if sizes else step.signed
    zeros = [torch.zeros(parent.shape, dtype=torch.float64) for parent in parents]
    _, back = torch.func.vjp(function, *zeros)  # type: ignore[misc]
    parts: tuple[Tensor, ...] = torch.vmap(back)(rows)
    return list(parts)


def _below(target: Node) -> list[Node]:
    """The target and all it depends on, up to balls and free values, the last one first."""
    found = {target.index: target}
    waiting = [target]
    while waiting:
        node = waiting.pop()
        if not isinstance(node.step, Affine | Pointwise):
            continue
        for parent in node.parents:
            if parent.index not in found:
                found[parent.index] = parent
                waiting.append(parent)
    return [found[index] for index in sorted(found, reverse=True)]


def _prepare(node: Node) -> _Unit | None:
    step = node.step
    assert isinstance(step, Pointwise)
    if step.curve.bend is None:
        return None
    (below,) = node.parents
    linear = below.bounded
    lower, upper = finite(below.lower), finite(below.upper)
    grid = step.curve.grid(torch.where(linear, lower, 0.0), torch.where(linear, upper, 0.0))
    ball = below.step if isinstance(below.step, Ball) else None
    return _Unit(node, grid, linear, ball, grid.chord)


def _entries(unit: _Unit) -> int:
    return unit.grid.points.numel()


def _end(node: Node, a: Tensor) -> Tensor:
    """The largest value of the rows on a value that is not followed further."""
    box = support(a, node.lower, node.upper)
    if not isinstance(node.step, Ball):
        return box
    ball = (a * node.step.bias).flatten(1).sum(1) + node.step.longest(a * node.step.gain)
    return torch.minimum(box, ball)


def _highest(grid: Grid, a: Tensor, slope: Tensor) -> Tensor:
    """Max over the grid of ``a phi(y) - slope y``, unit by unit: (k, *shape)."""
    ends = a * grid.values[:, None] - slope * grid.points[:, None]
    pieces = torch.maximum(ends[:-1], ends[1:]) + a.abs() * grid.error[:, None]
    return pieces.amax(0)


def _highest_on_ball(
    grid: Grid, ball: Ball, a: Tensor, slope: Tensor, weight: Tensor, linear: Tensor
) -> Tensor:
    """The sum over the units of the maxima of ``a phi(y) - slope y - weight t^2``; y = g t + b."""
    own = weight[..., None].expand(*weight.shape, a[0].numel() // ball.groups).reshape(a.shape)
    curved = linear & (ball.gain != 0)
    own = torch.where(curved, own / torch.where(curved, ball.gain, 1.0).square(), 0.0)
    left, right = grid.points[:-1, None], grid.points[1:, None]
    run = right - left
    rise = a * (grid.values[1:] - grid.values[:-1])[:, None]
    steep = torch.where(run > 0, rise / torch.where(run > 0, run, 1.0), 0.0) - slope
    # The line is highest at the end it rises to; against the parabola, where their slopes meet.
    peak = ball.bias + steep / (2.0 * own.clamp(min=1e-300))
    at = torch.minimum(torch.maximum(peak, left), right).detach()
    value = a * grid.values[:-1, None] - slope * left
    value = value + steep * (at - left) - own * (at - ball.bias).square()
    value = value + a.abs() * grid.error[:, None]
    return value.amax(0).flatten(1).sum(1)


def _settled(before: Tensor, now: Tensor) -> bool:
    """Whether no bound has become much better."""
    return bool((before - now <= _GAIN * now.abs()).all())


def _guess(ball: Ball, a: Tensor) -> Tensor:
    """Log lambda for which the bound of a linear function on the ball would be least."""
    size = length((a * ball.gain).reshape(len(a), ball.groups, -1))
    return (0.3 * size / ball.radius.clamp(min=1e-300)).clamp(min=1e-30).log()


def _weighed(a: Tensor, node: Node) -> Tensor:
    """The sum of the sizes of all terms of ``a . y``."""
    return times(a.abs(), largest(node.lower, node.upper)).flatten(1).sum(1)


def _affine_rounding(step: Affine, node: Node, a: Tensor) -> Tensor:
    parts = pull(step, node.parents, a.abs(), sizes=True)
    size = (a * step.offset).abs().flatten(1).sum(1)
    for part, parent in zip(parts, node.parents, strict=True):
        size = size + _weighed(part, parent)
    return rounding(max(step.terms, step.offset.numel(), a.shape[0])) * size


def _unit_rounding(unit: _Unit, a: Tensor, below: Tensor, weight: Tensor | None) -> Tensor:
    size = times(a.abs(), largest(finite(unit.node.lower), finite(unit.node.upper)))
    size = size + times(below.abs(), largest(unit.below.lower, unit.below.upper))
    total = size.flatten(1).sum(1)
    if unit.ball is not None and weight is not None:
        total = total + (weight.exp() * unit.ball.radius.square()).sum(1)
    return rounding(unit.node.lower.numel()) * 4.0 * total
