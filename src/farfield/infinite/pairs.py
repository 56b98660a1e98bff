"""Values of single inputs, computed at once, and values of pairs, computed tile by tile.

A kernel of n inputs has n rows and n^2 pairs. Reading a model computes what belongs to a row
straight away (:class:`Rows`), and only writes down what belongs to a pair (:class:`Deferred`);
a :class:`Program` then runs what was written down, for one tile of pairs after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Rows:
    """One value for each input of the two batches.

    In a tile they are columns and rows that broadcast to pairs: (*positions, n1, 1) and
    (*positions, 1, n2). When both batches are the same, so are both tensors, and work is done
    once.

    Attributes:
        left: Of the first batch, (*positions, n1).
        right: Of the second batch, (*positions, n2).
    """

    left: Tensor
    right: Tensor

    def map(self, function: Callable[..., Tensor], *others: Rows | Tensor | float) -> Rows:
        """The function of these values and the others, for each batch."""
        lefts = [other.left if isinstance(other, Rows) else other for other in others]
        left = function(self.left, *lefts)
        if all(rows.right is rows.left for rows in (self, *others) if isinstance(rows, Rows)):
            return Rows(left, left)
        rights = [other.right if isinstance(other, Rows) else other for other in others]
        return Rows(left, function(self.right, *rights))

    def sides(self, *others: Rows) -> list[tuple[Tensor, ...]]:
        """These values and the others of each batch; once if both batches are the same."""
        every = (self, *others)
        left, right = tuple(rows.left for rows in every), tuple(rows.right for rows in every)
        return [left] if all(rows.right is rows.left for rows in every) else [left, right]

    def __mul__(self, factor: Rows | Tensor | float) -> Rows:
        """The values times a number, or times other values."""
        return self.map(torch.mul, factor)

    def tile(self, rows: slice, columns: slice) -> Rows:
        """Those of a tile, in the shapes that broadcast to pairs."""
        return Rows(self.left[..., rows, None], self.right[..., None, columns])

    def outer(self) -> Tensor:
        """In a tile: the product for each pair."""
        return self.left * self.right

    def gap(self) -> Tensor:
        """In a tile: the difference for each pair."""
        return self.left - self.right


@dataclass(frozen=True, eq=False)
class Vectors(Rows):
    """Several values for each input: (*positions, n1, d) and (*positions, n2, d), in tiles too."""

    def tile(self, rows: slice, columns: slice) -> Vectors:
        """Those of a tile."""
        return Vectors(self.left[..., rows, :], self.right[..., columns, :])

    @classmethod
    def of(cls, rows: Rows, function: Callable[[Tensor], Tensor]) -> Vectors:
        """The function's vector for each input."""
        both = rows.map(function)
        return cls(both.left, both.right)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A data class whose fields are rows, other bundles, or plain values."""

    def tile(self: Value, rows: slice, columns: slice) -> Value:
        """The same with the rows of a tile."""
        parts = {}
        for field in fields(self):  # type: ignore[arg-type]
            part = getattr(self, field.name)
            sliced = isinstance(part, Rows | Bundle)
            parts[field.name] = part.tile(rows, columns) if sliced else part
        return type(self)(**parts)


class Deferred(Generic[Value]):
    """What a function makes of each tile of pairs.

    Args:
        function: Takes the arguments' values in a tile.
        arguments: Other deferred values, rows, bundles of rows, or plain values.
    """

    __slots__ = ("arguments", "function")

    def __init__(self, function: Callable[..., Value], *arguments: Any) -> None:
        self.function = function
        self.arguments = arguments

    def parents(self) -> Iterator[Deferred[Any]]:
        """The deferred values among the arguments."""
        return (part for part in self.arguments if isinstance(part, Deferred))


class Program:
    """Deferred values in an order in which they can be computed, each once for a tile.

    Args:
        outputs: What is wanted.

    Attributes:
        outputs: What is wanted.
        steps: Everything that must be computed for it, in order.
        done_after: For each step, the ``id`` of the values that nothing needs after it.
    """

    def __init__(self, outputs: Sequence[Deferred[Tensor]]) -> None:
        self.outputs = outputs
        self.steps = _ordered(outputs)
        last_use = {id(parent): n for n, step in enumerate(self.steps) for parent in step.parents()}
        kept = {id(output) for output in outputs}
        self.done_after: list[list[int]] = [[] for _ in self.steps]
        for name, number in last_use.items():
            if name not in kept:
                self.done_after[number].append(name)

    @property
    def positions(self) -> int:
        """How many values one array holds for a pair, at most: one for each position."""
        found = [
            part.left.shape[: -2 if isinstance(part, Vectors) else -1].numel()
            for step in self.steps
            for part in step.arguments
            if isinstance(part, Rows)
        ]
        return max([1, *found])

    def tile(self, rows: slice, columns: slice) -> list[Tensor]:
        """The outputs for these rows and columns."""
        values: dict[int, Any] = {}
        for step, done in zip(self.steps, self.done_after, strict=True):
            arguments = []
            for part in step.arguments:
                if isinstance(part, Deferred):
                    arguments.append(values[id(part)])
                elif isinstance(part, Rows | Bundle):
                    arguments.append(part.tile(rows, columns))
                else:
                    arguments.append(part)
            values[id(step)] = step.function(*arguments)
            del arguments
            for name in done:
                del values[name]
        return [values[id(output)] for output in self.outputs]


def _ordered(outputs: Sequence[Deferred[Any]]) -> list[Deferred[Any]]:
    """Everything the outputs need, parents first. Without recursion: networks can be deep."""
    order: list[Deferred[Any]] = []
    met: set[int] = set()
    waiting = [(output, False) for output in reversed(outputs)]
    while waiting:
        step, ready = waiting.pop()
        if ready:
            order.append(step)
        elif id(step) not in met:
            met.add(id(step))
            waiting.append((step, True))
            waiting += [(parent, False) for parent in step.parents()]
    return order
