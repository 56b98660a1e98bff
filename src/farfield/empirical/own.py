"""The kernel of every sample with itself, parameter by parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.empirical.costs import Pair, in_any_order
from farfield.empirical.factors import Factor, Outer
from farfield.empirical.masked import Masked, add_masked_own
from farfield.empirical.outputs import Kind
from farfield.empirical.workspace import Take, Workspace, fresh


@dataclass
class Own:
    """A sum over parameters of the kernels of every sample with itself.

    Attributes:
        total: Where to add: (n,); (n, o) for ``diagonal``, (n, o, o) for ``full``.
        kind: What becomes of several outputs.
        scratch: Bytes for intermediate arrays.
    """

    total: Tensor
    kind: Kind
    scratch: int

    def by_gram(self, factor: Factor) -> bool:
        """Whether the gradients of this parameter need not be written out."""
        if not isinstance(factor, Outer):
            return False
        if factor.positions == 1:
            return True
        # Where a kernel's products take written-out gradients, their squares are almost free, and
        # a diagonal alone takes less for writing them out than for its passes.
        positions, outputs = factor.positions, factor.signals.shape[1]
        each = outputs * factor.rows
        pairs = outputs if self.kind == "full" else 0
        by_gram = positions * (positions * (factor.columns + each) + pairs * each)
        return 4 * by_gram <= each * factor.columns * (positions + pairs)

    def add(self, cluster: Sequence[Pair], mask: Masked | None = None) -> None:
        """Add the shares of some parameters.

        Args:
            cluster: Parameters of the same signals.
            mask: That of these signals, if they have one.
        """
        if mask is not None:
            for pair in cluster:
                if not isinstance(pair.left, Outer):
                    raise AssertionError("only sums of outer products have masks")
                args = self.total, self.kind, pair.left, mask, pair.weight, self.scratch
                add_masked_own(*args)
            return
        grams = [
            (pair.left, pair.weight)
            for pair in cluster
            if isinstance(pair.left, Outer) and self.by_gram(pair.left)
        ]
        if grams:
            self._add_grams(grams)
        for pair in cluster:
            if not self.by_gram(pair.left):
                factor = in_any_order(pair).left
                for part in parts_of(factor, self.scratch, take=Workspace().of("gradients")):
                    self.add_part(part, pair.weight)

    def add_part(self, gradients: Tensor, weight: float) -> None:
        """Add the share of some entries of a parameter.

        Args:
            gradients: (n, directions, entries).
            weight: What it is multiplied with.
        """
        if self.kind == "full":
            self.total += weight * (gradients @ gradients.mT)
            return
        squares = torch.linalg.vector_norm(gradients, dim=2).square()
        self.total += weight * (squares if self.kind == "diagonal" else squares.sum(1))

    def _add_grams(self, maps: Sequence[tuple[Outer, float]]) -> None:
        """Add the shares of parameters of the same signals, whose squares are computed once."""
        signals = maps[0][0].signals
        n, outputs, groups, positions, channels = signals.shape
        if positions == 1 and self.kind != "full":
            squares = _squares(signals.select(3, 0))  # (n, o, g)
            squares *= _weighed(maps, lambda values: _squares(values.select(2, 0)).unsqueeze(1))
            self.total += squares.sum(2) if self.kind == "diagonal" else squares.sum((1, 2))
            return
        numbers = groups * positions**2 * (1 + outputs)
        if self.kind == "full" and positions > 1:
            numbers += 3 * groups * positions * outputs * channels
        step = max(1, self.scratch // (2 * numbers * signals.element_size()))
        for start in range(0, n, step):
            rows = slice(start, start + step)
            values = _weighed(maps, lambda values: values @ values.mT, rows)
            total, part = self.total[rows], signals[rows]
            if self.kind == "full" and positions > 1:
                total += _all_pairs(part, values)
                continue
            if self.kind == "full":
                flat = part[:, :, :, 0].transpose(1, 2)  # (n, g, o, r)
                grams = flat @ flat.mT
                grams *= values
                total += grams.sum(1)
                continue
            grams = part @ part.mT  # (n, o, g, t, t)
            grams *= values if isinstance(values, float) else values.unsqueeze(1)
            each = grams.sum((2, 3, 4))
            total += each if self.kind == "diagonal" else each.sum(1)


def _all_pairs(signals: Tensor, values: Tensor | float) -> Tensor:
    """``sum_tu (v_t . v_u) (s_at . s_bu)`` for all pairs of outputs a, b of every sample.

    Args:
        signals: What came back, (n, o, groups, positions, rows).
        values: Gram matrices of what went in, (n, groups, positions, positions).

    Returns:
        (n, o, o)
    """
    if isinstance(values, float):
        raise AssertionError("where there are several positions, biases are written out")
    n, outputs, groups, positions, rows = signals.shape
    mixed = values @ signals.permute(0, 2, 3, 1, 4).flatten(3)  # (n, g, t, o r)
    mixed = mixed.view(n, groups, positions, outputs, rows).permute(0, 3, 1, 2, 4)
    return mixed.flatten(2) @ signals.flatten(2).mT


def _weighed(
    maps: Sequence[tuple[Outer, float]],
    product: Callable[[Tensor], Tensor],
    rows: slice = slice(None),
) -> Tensor | float:
    """The weighed sum of products of what went in."""
    constant = sum(weight for factor, weight in maps if factor.values is None)
    total: Tensor | None = None
    for factor, weight in maps:
        if factor.values is not None:
            share = product(factor.values[rows])
            share = share if weight == 1.0 else weight * share
            total = share if total is None else total + share
    return float(constant) if total is None else total + constant


def _squares(vectors: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return norms.square()


def part_rows(factor: Outer, scratch: int) -> int:
    """How many rows of a parameter are written out at a time."""
    n, directions, groups = factor.signals.shape[:3]
    row = factor.signals.element_size() * n * directions * groups * factor.columns
    return max(1, min(factor.rows, scratch // max(1, 2 * row)))


def parts_of(
    factor: Factor, scratch: int, rows: int | None = None, take: Take = fresh
) -> Iterator[Tensor]:
    """Written-out gradients, some rows of the parameter at a time.

    Args:
        factor: The gradients.
        scratch: Bytes for them and for what is made of them.
        rows: Rows at a time; as many as there is room for when ``None``.
        take: Memory for them, valid until the next are taken.

    Yields:
        (n, directions, entries) of some entries.
    """
    if not isinstance(factor, Outer):
        yield factor.dense()
        return
    step = part_rows(factor, scratch) if rows is None else rows
    for start in range(0, factor.rows, step):
        yield factor.part(slice(start, start + step)).dense(take)
