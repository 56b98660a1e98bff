"""Gradients of single samples, in the form in which they take least.

For each sample, every direction (an output, or a sum of outputs) and one parameter, the gradient is
either written out, or a sum over positions t of outer products ``signal_t (x) value_t`` of
what came back to a layer and what had gone into it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from farfield.empirical.workspace import Take, fresh


@dataclass(frozen=True)
class Dense:
    """Gradients written out.

    Attributes:
        values: (n, directions, entries of the parameter).
    """

    values: Tensor

    def scaled(self, factor: float) -> Dense:
        """These gradients times a number."""
        return self if factor == 1.0 else Dense(self.values * factor)

    def dense(self) -> Tensor:
        """(n, directions, entries)."""
        return self.values


@dataclass(frozen=True)
class Outer:
    """Sums of outer products, the gradients of a linear map.

    Attributes:
        values: What went in, (n, groups, positions, columns); ``None`` stands for a single column
            of ones, as a bias has.
        signals: What came back, (n, directions, groups, positions, rows).
        transposed: The parameter is (groups, columns, rows) rather than (groups, rows, columns).
    """

    values: Tensor | None
    signals: Tensor
    transposed: bool = False

    @property
    def groups(self) -> int:
        """Linear maps side by side."""
        return self.signals.shape[2]

    @property
    def positions(self) -> int:
        """Places where the map is applied in a sample."""
        return self.signals.shape[3]

    @property
    def rows(self) -> int:
        """Outputs of one map."""
        return self.signals.shape[4]

    @property
    def columns(self) -> int:
        """Inputs of one map."""
        return 1 if self.values is None else self.values.shape[3]

    def scaled(self, factor: float) -> Outer:
        """These gradients times a number."""
        return self if factor == 1.0 else replace(self, signals=self.signals * factor)

    def part(self, rows: slice) -> Outer:
        """The gradients of some rows of the parameter."""
        return replace(self, signals=self.signals[..., rows])

    def in_product_order(self) -> Outer:
        """The same with the entries in the order in which :meth:`dense` makes them fastest."""
        return replace(self, transposed=self.signals.shape[1] == 1)

    def dense(self, take: Take = fresh) -> Tensor:
        """(n, directions, entries), in memory that is taken where many numbers are."""
        n, directions, groups, positions, rows = self.signals.shape
        if self.values is None:
            return self.signals.sum(3).reshape(n, directions, -1)
        # Products with the rows last are the faster ones (twice as fast for 27 columns); at many
        # positions that pays even if the entries are turned afterwards.
        rows_last = directions == 1 and (self.transposed or positions >= 4 * self.columns)
        went_in = self.values.flatten(0, 1)
        if rows_last:
            left, right = went_in.mT, self.signals.reshape(n * groups, positions, rows)
        else:  # all directions in one product: what went into a layer is the same for them
            stacked = self.signals.permute(0, 2, 1, 4, 3)
            left, right = stacked.reshape(n * groups, directions * rows, positions), went_in
        product = take((len(left), left.shape[1], right.shape[2]), left)
        torch.bmm(left, right, out=product)
        if rows_last:
            product = product.mT
        product = product.reshape(n, groups, directions, rows, self.columns).transpose(1, 2)
        return (product.mT if self.transposed else product).reshape(n, directions, -1)


@dataclass(frozen=True)
class Lookup:
    """Gradients of a table of which rows are read, as an embedding is.

    Attributes:
        tokens: Which row is read at each position, (n, positions); a negative number where the
            table gets no gradient.
        signals: What came back, (n, directions, positions, columns).
        rows: Rows of the table.
    """

    tokens: Tensor
    signals: Tensor
    rows: int

    def scaled(self, factor: float) -> Lookup:
        """These gradients times a number."""
        return self if factor == 1.0 else replace(self, signals=self.signals * factor)

    def dense(self) -> Tensor:
        """(n, directions, entries)."""
        n, directions, positions, columns = self.signals.shape
        table = self.signals.new_zeros(n, directions, self.rows + 1, columns)
        spare = self.tokens.where(self.tokens >= 0, self.rows)
        index = spare[:, None, :, None].expand(n, directions, positions, columns)
        table.scatter_add_(2, index, self.signals)
        return table[:, :, : self.rows].reshape(n, directions, -1)


Factor = Dense | Outer | Lookup


def combined(factors: list[Factor]) -> Factor:
    """The gradients of one parameter that is used several times: the sum over its uses.

    Args:
        factors: The gradients of each use, for the same samples and directions.

    Returns:
        Their sum, whose kernel holds all products between different uses.
    """
    if len(factors) == 1:
        return factors[0]
    outers = [factor for factor in factors if isinstance(factor, Outer)]
    if len(outers) == len(factors) and len({_form(outer) for outer in outers}) == 1:
        values = [outer.values for outer in outers if outer.values is not None]
        return Outer(
            torch.cat(values, 2) if values else None,
            torch.cat([outer.signals for outer in outers], 3),
            outers[0].transposed,
        )
    lookups = [factor for factor in factors if isinstance(factor, Lookup)]
    if len(lookups) == len(factors):
        return Lookup(
            torch.cat([lookup.tokens for lookup in lookups], 1),
            torch.cat([lookup.signals for lookup in lookups], 2),
            lookups[0].rows,
        )
    total = factors[0].dense().clone()
    for factor in factors[1:]:
        total += factor.dense()
    return Dense(total)


def entries(factor: Factor) -> int:
    """The number of entries of the parameter."""
    if isinstance(factor, Dense):
        return factor.values.shape[2]
    if isinstance(factor, Lookup):
        return factor.rows * factor.signals.shape[3]
    return factor.groups * factor.rows * factor.columns


def signals_of(factor: Factor) -> Tensor:
    """What has one entry for each direction: signals, or the gradients themselves."""
    return factor.values if isinstance(factor, Dense) else factor.signals


def size_of(tensor: Tensor) -> int:
    """Bytes of a tensor's numbers, each counted once."""
    return tensor.numel() * tensor.element_size()


def _form(outer: Outer) -> tuple[object, ...]:
    ones = outer.values is None
    return ones, outer.transposed, outer.groups, outer.rows, outer.columns
