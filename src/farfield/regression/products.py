"""Products with a kernel matrix: held in memory, read from a store, or computed anew each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from farfield.kernel import Kernel
from farfield.regression.matrices import cross_matrix

SIDE = 2048
"""Rows and columns of a tile that is computed for a product: 32 MB."""

Columns = Float[np.ndarray, "n k"]


@runtime_checkable
class Products(Protocol):
    """A symmetric matrix K that is multiplied with vectors."""

    @property
    def longest(self) -> int:
        """Numbers that a product adds up one after the other: what bounds its rounding."""

    def multiply(self, vectors: Columns) -> Columns:
        """K v."""


@runtime_checkable
class Stored(Protocol):
    """A kernel matrix on a disk, such as a :class:`farfield.scale.StoredKernel`."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""

    @property
    def side(self) -> int:
        """Rows and columns of a tile."""

    def read(self, rows: slice, columns: slice) -> Float[np.ndarray, "m k"]:
        """The values of one tile, in one piece."""

    def multiply(self, vectors: Columns) -> Columns:
        """K v, each tile read once."""

    def check_made_of(self, kernel: Kernel, x: Tensor) -> None:
        """Refuse to stand for another matrix than ``kernel(x, x)``."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """The whole matrix.

    Attributes:
        matrix: K.
    """

    matrix: Float[np.ndarray, "n n"]

    @property
    def longest(self) -> int:
        """A part of a row, and then the parts."""
        return SIDE + -(-len(self.matrix) // SIDE)

    def multiply(self, vectors: Columns) -> Columns:
        """K v, in parts of its columns: less is added up in a row, so that less is rounded."""
        product = np.zeros((len(self.matrix), vectors.shape[1]))
        for start in range(0, len(self.matrix), SIDE):
            columns = slice(start, start + SIDE)
            product += self.matrix[:, columns] @ vectors[columns]
        return product


@dataclass(frozen=True, eq=False)
class Recomputed:
    """Computed tile by tile for every product; half of the tiles, which are used on both sides.

    Attributes:
        kernel: The kernel.
        x: The points.
        side: Rows and columns of a tile.
    """

    kernel: Kernel
    x: Float[Tensor, "n *features"]
    side: int = SIDE

    @property
    def longest(self) -> int:
        """A row of a tile, and then the tiles."""
        return self.side + -(-len(self.x) // self.side)

    def multiply(self, vectors: Columns) -> Columns:
        """K v."""
        product = np.zeros((len(self.x), vectors.shape[1]))
        for rows, columns in spans(len(self.x), self.side):
            block = self.x[rows]
            values = cross_matrix(self.kernel, block, block if rows == columns else self.x[columns])
            product[rows] += values @ vectors[columns]
            if rows != columns:
                product[columns] += values.T @ vectors[rows]
        return product


@dataclass(frozen=True, eq=False)
class FromStore:
    """Read tile by tile for every product.

    Attributes:
        stored: The matrix of all points, duplicates included.
        chosen: Which of them are meant.
    """

    stored: Stored
    chosen: Int[np.ndarray, " m"]

    @property
    def longest(self) -> int:
        """A row of a tile, and then the tiles."""
        size, side = self.stored.shape[0], self.stored.side
        return side + -(-size // side)

    def multiply(self, vectors: Columns) -> Columns:
        """K v."""
        size = self.stored.shape[0]
        if len(self.chosen) == size:
            return self.stored.multiply(vectors)
        padded = np.zeros((size, vectors.shape[1]))
        padded[self.chosen] = vectors
        product: Columns = self.stored.multiply(padded)[self.chosen]
        return product


def spans(size: int, side: int) -> Iterator[tuple[slice, slice]]:
    """The tiles of a symmetric matrix on its diagonal and to the right of it."""
    starts = range(0, size, side)
    for top in starts:
        for left in starts[top // side :]:
            yield slice(top, min(top + side, size)), slice(left, min(left + side, size))
