"""Functions of one variable, with what is needed to bound them and lines above and below them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.growth.intervals import UNIT

_EVEN, _DENSE = 17, (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5)  # points of a grid for smooth functions
_PIECES = (0.25, 0.5, 0.75, 1.0)  # where a line is compared with a smooth function, in parts
_LIBRARY = 16.0 * UNIT  # relative error of an elementary function, generously

Number = float | int | Tensor
Bend = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Curve:
    """A function phi of one variable.

    Attributes:
        name: What it is called.
        value: The function, in float64.
        left: Its limit at minus infinity.
        right: Its limit at infinity.
        left_power: It grows at most like |y|^left_power at minus infinity.
        right_power: Likewise at infinity.
        kinks: Where its derivative or its value jumps.
        turns: Where it may have a minimum or maximum between the kinks.
        bend: A bound on |phi''| between a and b, which have no kink between them; ``None`` where
            lines above and below are not wanted.
        slack: An absolute error of ``value``.
        jump: By how much the value itself may jump at a kink, where ``bend`` is given.
        least: No value is below; rounding cannot go there.
        most: No value is above.
        asymptotes: (a, b, c), if the function is nowhere farther than c from a y where y < 0, and
            from b y where y > 0.
    """

    name: str
    value: Callable[[Tensor], Tensor]
    left: Number
    right: Number
    left_power: float | int = 1.0
    right_power: float | int = 1.0
    kinks: tuple[float | int, ...] = ()
    turns: tuple[float | int, ...] = ()
    bend: Bend | None = None
    slack: float | int = 0.0
    jump: float | int = 0.0
    least: float | int = -math.inf
    most: float | int = math.inf
    asymptotes: tuple[Number, Number, float | int] | None = None

    def interval(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Least and largest value on each interval."""
        ends = [self._limit(lower, self.left), self._limit(upper, self.right)]
        inner = []
        for kink in self.kinks:  # from both sides, since the value itself may jump
            at = torch.tensor(kink, dtype=lower.dtype)
            inner += [at, at.nextafter(at - 1), at.nextafter(at + 1)]
        inner += [torch.tensor(turn, dtype=lower.dtype) for turn in self.turns]
        for point in inner:
            inside = (point >= lower) & (point <= upper)
            ends.append(torch.where(inside, self.value(point.expand_as(lower)), ends[0]))
        values = torch.stack(ends)
        return self._rounded(values.amin(0), -1.0), self._rounded(values.amax(0), 1.0)

    def _limit(self, ends: Tensor, limit: Number) -> Tensor:
        infinite = ends.isinf()
        return torch.where(infinite, limit, self.value(torch.where(infinite, 0.0, ends)))

    def _rounded(self, values: Tensor, direction: float | int) -> Tensor:
        margin = _LIBRARY * values.abs() + self.slack
        moved = torch.where(values.isinf(), values, values + direction * margin)
        return moved.clamp(self.least, self.most)

    def degree(self, lower: Tensor, upper: Tensor, degree: Tensor) -> Tensor:
        """The degree of the values, from intervals and degrees of the arguments."""
        left = torch.where(lower.isinf(), self.left_power, 0.0)
        right = torch.where(upper.isinf(), self.right_power, 0.0)
        power = torch.maximum(left, right)
        return torch.where(power.isinf(), math.inf, power * degree)

    def grid(self, lower: Tensor, upper: Tensor) -> Grid:
        """Points between which the function is a line, up to a known error.

        Args:
            lower: Finite ends of the intervals.
            upper: Likewise.

        Returns:
            The points, values and errors.
        """
        assert self.bend is not None
        fixed = [*self.kinks]
        even = torch.linspace(0.0, 1.0, _EVEN if self._is_smooth(lower) else 2).double()
        if len(even) > 2:
            fixed += [*_DENSE, *(-point for point in _DENSE if point)]
        shape = (-1, *(1,) * lower.ndim)
        points = lower + even.reshape(shape) * (upper - lower)
        points[0], points[-1] = lower, upper  # to the last bit: nothing may lie outside
        inner = torch.tensor(fixed, dtype=torch.float64).reshape(shape)
        inner = torch.minimum(torch.maximum(inner, lower), upper)  # those outside do no harm
        points = torch.cat([points, inner]).sort(0).values.clamp(lower, upper)
        values = self.value(points)
        left, right = points[:-1], points[1:]
        error = self.bend(left, right) * (right - left).square() / 8.0
        size = torch.maximum(values[:-1].abs(), values[1:].abs())
        return Grid(points, values, error + _LIBRARY * size + self.slack + self.jump)

    def line(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A line for each interval: its slope and height, and how far the function is from it.

        Args:
            lower: Finite ends of the intervals.
            upper: Likewise.

        Returns:
            Numbers for which ``|phi(y) - slope y - height| <= error`` in each interval.
        """
        assert self.bend is not None
        walls = [lower, *(torch.full_like(lower, kink) for kink in sorted(self.kinks)), upper]
        walls = [torch.minimum(torch.maximum(wall, lower), upper) for wall in walls]
        points = [lower]
        share = _PIECES if self._is_smooth(lower) else (1.0,)
        for left, right in itertools.pairwise(walls):
            # the last one to the last bit: no number may lie outside
            points += [left + part * (right - left) for part in share[:-1]] + [right]
        at = torch.stack(points)
        values = self.value(at)
        left, right = at[:-1], at[1:]
        bend = self.bend(left, right) * (right - left).square() / 8.0
        run = upper - lower
        slope = torch.where(run > 0, (values[-1] - values[0]) / torch.where(run > 0, run, 1.0), 0.0)
        above = values - slope * at
        size = values.abs() + (slope * at).abs()
        room = bend + _LIBRARY * torch.maximum(size[:-1], size[1:]) + self.slack + self.jump
        high = (torch.maximum(above[:-1], above[1:]) + room).amax(0)
        low = (torch.minimum(above[:-1], above[1:]) - room).amin(0)
        middle = (low + high) / 2.0
        return slope, middle, torch.maximum(high - middle, middle - low) * (1.0 + _LIBRARY)

    def _is_smooth(self, like: Tensor) -> bool:
        one = torch.ones((), dtype=like.dtype)
        assert self.bend is not None
        return bool((self.bend(one, one) > 0).any() or (self.bend(-one, -one) > 0).any())


@dataclass(frozen=True, eq=False)
class Grid:
    """A function between points: the line through its values there, up to an error.

    Attributes:
        points: (K + 1, *shape), ascending.
        values: The function there.
        error: (K, *shape): |phi(y) - line(y)| is at most this between two points; it is
            ``max |phi''| h^2 / 8`` on an interval of length h.
    """

    points: Tensor
    values: Tensor
    error: Tensor

    @property
    def chord(self) -> Tensor:
        """The slope from the first point to the last."""
        run = self.points[-1] - self.points[0]
        return torch.where(run > 0, (self.values[-1] - self.values[0]) / run, 0.0)


def straight(a: Tensor, b: Tensor) -> Tensor:
    """The bend of a function that is a line between its kinks."""
    return torch.zeros_like(a)


def constant_bend(most: float | int) -> Bend:
    """A bound on |phi''| that holds everywhere."""
    return lambda a, b: torch.full_like(a, most)


def fading(most: float | int, tail: Callable[[Tensor], Tensor]) -> Bend:
    """A bound ``min(most, tail(m))`` on |phi''| where |y| >= m, with ``tail`` decreasing."""

    def bend(a: Tensor, b: Tensor) -> Tensor:
        nearest = torch.where((a <= 0) & (b >= 0), 0.0, torch.minimum(a.abs(), b.abs()))
        return tail(nearest).clamp(max=most)

    return bend
