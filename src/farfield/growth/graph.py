"""What is known of every value that a model computes, and how each depends on those before it.

The values are nodes of a graph. Each has an interval and a degree of growth for every unit, valid
for every input of the domain, and a step that tells how it was made: bounds go forward through the
steps, linear functions go back through them (:mod:`farfield.growth.dual`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from farfield.growth.curves import Curve
from farfield.growth.intervals import finite, rounding, tidy

LinearMap = Callable[..., Tensor]


@dataclass(frozen=True)
class Place:
    """Where in the model a value was made.

    Attributes:
        path: Name of the module, as in ``model.named_modules()``; empty for the model itself.
        kind: Class of the module.
        operation: The PyTorch function.
    """

    path: str
    kind: str
    operation: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path!r}" if self.path else f"{self.operation} in {self.kind}"


@dataclass(frozen=True)
class Free:
    """A value of which only the interval is known: inputs, products, hulls.

    Attributes:
        is_input: Whether it is the model's input.
    """

    is_input: bool = False


@dataclass(frozen=True)
class Affine:
    """``plus(x) - minus(x) + offset``, with two linear functions that never decrease.

    Attributes:
        plus: Linear in all parents, with coefficients of at least 0; or nothing.
        minus: Likewise, subtracted.
        offset: What is added.
        terms: An upper bound on how many products are summed in one unit.
        kind: What it is, where that matters to someone: ``"linear"``, ``"add"``, ``"batch norm"``.
    """

    plus: LinearMap | None
    minus: LinearMap | None
    offset: Tensor
    terms: int
    kind: str = ""

    def signed(self, *parents: Tensor) -> Tensor:
        """The linear part."""
        if self.plus is None:
            return torch.zeros_like(self.offset) if self.minus is None else -self.minus(*parents)
        return self.plus(*parents) if self.minus is None else self._plus_minus(parents, -1.0)

    def absolute(self, *parents: Tensor) -> Tensor:
        """The linear part with the absolute values of its coefficients."""
        if self.plus is None:
            return torch.zeros_like(self.offset) if self.minus is None else self.minus(*parents)
        return self.plus(*parents) if self.minus is None else self._plus_minus(parents, 1.0)

    def _plus_minus(self, parents: Sequence[Tensor], sign: float) -> Tensor:
        assert self.plus is not None
        assert self.minus is not None
        return self.plus(*parents) + sign * self.minus(*parents)


@dataclass(frozen=True)
class Pointwise:
    """A function of each entry.

    Attributes:
        curve: The function.
    """

    curve: Curve


@dataclass(frozen=True)
class Ball:
    r"""A normalised vector: ``gain * t + bias``, |t| <= radius in each of m groups of n units.

    Attributes:
        groups: m; reshaping the value to (m, n) has a group in each row.
        radius: (m,); sqrt(n) for LayerNorm and RMSNorm.
        centred: Whether the units of t sum to zero in each group.
        gain: Of the value's shape.
        bias: Likewise.
        cone: Where t can point to, if that is known to be less than everywhere.
        kind: ``"LayerNorm"`` and so on.
        eps: t is ``y / sqrt(mean(y^2) + eps)``, if it is known to be that.
    """

    groups: int
    radius: Tensor
    centred: bool
    gain: Tensor
    bias: Tensor
    cone: Cone | None
    kind: str
    eps: float | int | None = None

    def longest(self, rows: Tensor) -> Tensor:
        """The largest value of each linear function of t on the balls: (k, *shape) -> (k,)."""
        grouped = rows.reshape(len(rows), self.groups, -1)
        if self.cone is not None:
            return self.radius * self.cone.longest(grouped[:, 0])
        if self.centred:
            grouped = grouped - grouped.mean(-1, keepdim=True)
        return (length(grouped) * self.radius).sum(-1)


@dataclass(frozen=True)
class Cone:
    """The directions that ``A x + c`` has for any x: half of a linear space.

    Attributes:
        basis: (n, r), orthonormal columns; the last one is the part of c that A x is not.
        sign: t has a component of this sign along the last column; 0 where that is not known.
        leak: How far outside of the space rounding lets a direction be.
    """

    basis: Tensor
    sign: float
    leak: float

    def longest(self, rows: Tensor) -> Tensor:
        """The largest value of each linear function on unit vectors of the cone: (k, n) -> (k,)."""
        inside = rows @ self.basis
        if self.sign:
            last = inside[:, -1:] * self.sign
            inside = torch.cat([inside[:, :-1], last.clamp(min=0.0)], 1)
        return length(inside) + self.leak * length(rows)


def length(x: Tensor) -> Tensor:
    """The Euclidean length along the last dimension."""
    found: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return found


Step = Free | Affine | Pointwise | Ball


@dataclass(eq=False)
class Node:
    """What is known of one value for every input of the domain.

    Attributes:
        index: Grows from the inputs to the outputs.
        lower: Least value of each unit, perhaps minus infinity.
        upper: Largest value.
        degree: Each unit is at most of the order |x|^degree as the input x grows.
        step: How it was made.
        parents: From which values.
        place: Where.
        simplex: Whether the last dimension holds weights of at least 0 that sum to 1.
        refined: Whether the interval has been tightened by going back through the graph.
    """

    index: int
    lower: Tensor
    upper: Tensor
    degree: Tensor
    step: Step
    parents: tuple[Node, ...]
    place: Place
    simplex: bool = False
    refined: bool = field(default=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value, with a batch of one input."""
        return tuple(self.lower.shape)

    @property
    def bounded(self) -> Tensor:
        """Which units have a finite interval."""
        return self.lower.isfinite() & self.upper.isfinite()

    @property
    def is_bounded(self) -> bool:
        """Whether all have."""
        return bool(self.bounded.all())

    def tighten(self, lower: Tensor, upper: Tensor) -> None:
        """Intersect the interval with another valid one."""
        low, high = torch.maximum(self.lower, lower), torch.minimum(self.upper, upper)
        # Both are valid, so they meet; where rounding says otherwise, keep the old one.
        meet = low <= high
        self.lower = torch.where(meet, low, self.lower)
        self.upper = torch.where(meet, high, self.upper)


def affine_interval(step: Affine, parents: Sequence[Node]) -> tuple[Tensor, Tensor]:
    """The interval of an affine function of values with known intervals."""
    lows, highs = [p.lower for p in parents], [p.upper for p in parents]
    low, low_size = _end(step, lows, highs, -math.inf)
    high, high_size = _end(step, highs, lows, math.inf)
    margin = rounding(step.terms)
    return tidy(low - margin * low_size, high + margin * high_size)


def _end(
    step: Affine, straight: list[Tensor], crossed: list[Tensor], limit: float
) -> tuple[Tensor, Tensor]:
    """One end of the interval, and the sum of the sizes of its terms."""
    end, size = step.offset, step.offset.abs()
    for part, values, sign in ((step.plus, straight, 1.0), (step.minus, crossed, -1.0)):
        if part is not None:
            known = [finite(value) for value in values]
            end = end + sign * part(*known)
            size = size + part(*(value.abs() for value in known))
            end = torch.where(_infinite(part, values), limit, end)
    return end, size


def _infinite(part: LinearMap, values: list[Tensor]) -> Tensor:
    """Which results have a coefficient other than 0 on an infinite value."""
    return part(*(value.isinf().double() for value in values)) > 0


def affine_degree(step: Affine, parents: Sequence[Node]) -> Tensor:
    """The largest degree among the values that have a coefficient other than 0."""
    result = torch.zeros_like(step.offset)
    for degree in torch.cat([p.degree.flatten() for p in parents]).unique().tolist():
        if degree > 0:
            reached = step.absolute(*((p.degree >= degree).double() for p in parents)) > 0
            result = torch.where(reached, degree, result)
    return result
