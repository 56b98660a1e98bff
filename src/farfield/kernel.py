"""A kernel: a matrix of pair values between two batches of inputs, computed tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.errors import SettingsError

MEMORY_BUDGET = 64 * 2**20
"""Bytes that the intermediate arrays of one tile may take, by default."""

_LIVE_ARRAYS = 24  # the arrays of a tile that are alive at once, at the widest point
_LONGEST_SIDE = 512  # larger tiles leave the cache and are slower

Output = Tensor | np.ndarray
BlockFunction = Callable[[Tensor, Tensor], Tensor]
RowFunction = Callable[[Tensor], Tensor]


class Kernel:
    """A symmetric positive semi-definite function of two inputs.

    ``kernel(x1, x2)[i, j] = k(x1[i], x2[j])``. The matrix is computed in tiles, so that beyond
    the output only about ``memory_budget`` bytes are used, whatever the sizes. On one batch
    (``x2=None``) only half of the tiles are computed: the matrix is exactly symmetric, and its
    diagonal equals ``diagonal(x1)`` exactly.

    Args:
        block: Computes the values of one tile: (m1, *features), (m2, *features) -> (m1, m2).
        diagonal: Computes ``k(x, x)`` of each row: (m, *features) -> (m,).
        memory_budget: Bytes for the intermediate arrays of a tile.

    Example:
        >>> import torch
        >>> linear = Kernel(lambda a, b: a @ b.T, lambda a: (a * a).sum(-1))
        >>> linear(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
        tensor([[5., 6.],
                [6., 9.]])
    """

    def __init__(
        self, block: BlockFunction, diagonal: RowFunction, memory_budget: int = MEMORY_BUDGET
    ) -> None:
        self._block = block
        self._diagonal = diagonal
        self.memory_budget = memory_budget

    def __call__(
        self,
        x1: Float[Tensor, "n1 *features"],
        x2: Float[Tensor, "n2 *features"] | None = None,
        out: Output | None = None,
    ) -> Tensor:
        """The matrix of kernel values.

        Args:
            x1: First batch.
            x2: Second batch; the first one when ``None``.
            out: Where to write: a tensor or a NumPy array (such as a memory map) of shape
                (n1, n2) and the dtype of the inputs.

        Returns:
            The matrix of shape (n1, n2), in the dtype and on the device of ``x1``: ``out``
            itself when it was a tensor, a view of its memory when it was an array.

        Raises:
            SettingsError: Batches whose features, dtypes or devices differ, or an ``out`` of
                the wrong shape or dtype.
        """
        return evaluate(
            lambda a, b: (self._block(a, b),),
            lambda a: (self._diagonal(a),),
            x1,
            x2,
            outs=[out],
            memory_budget=self.memory_budget,
        )[0]

    def diagonal(self, x: Float[Tensor, "n *features"]) -> Float[Tensor, " n"]:
        """The values ``k(x[i], x[i])``, without the matrix."""
        _check_batches(x, x)
        return self._diagonal(x)


def evaluate(
    block: Callable[[Tensor, Tensor], Sequence[Tensor]],
    diagonal: Callable[[Tensor], Sequence[Tensor]],
    x1: Tensor,
    x2: Tensor | None,
    outs: Sequence[Output | None],
    memory_budget: int = MEMORY_BUDGET,
) -> list[Tensor]:
    """Fill several kernel matrices that one block function computes together.

    Args:
        block: (m1, *features), (m2, *features) -> one (m1, m2) per kernel.
        diagonal: (m, *features) -> one (m,) per kernel.
        x1: First batch, (n1, *features).
        x2: Second batch, or ``None`` for the first one.
        outs: One place to write for each kernel, or ``None`` for a new tensor.
        memory_budget: Bytes for the intermediate arrays of a tile.

    Returns:
        One (n1, n2) matrix per kernel.

    Raises:
        SettingsError: As :meth:`Kernel.__call__`.
    """
    symmetric = x2 is None or x2 is x1
    other = x1 if x2 is None else x2
    _check_batches(x1, other)
    targets = [_target(out, x1, len(other)) for out in outs]
    side = tile_side(x1.element_size(), memory_budget)
    for rows in _slices(len(x1), side):
        for columns in _slices(len(other), side):
            if symmetric and columns.start < rows.start:
                continue
            for target, tile in zip(targets, block(x1[rows], other[columns]), strict=True):
                if symmetric and columns.start == rows.start:
                    tile = tile.triu() + tile.triu(1).T
                target[rows, columns] = tile
                if symmetric and columns.start != rows.start:
                    target[columns, rows] = tile.T
    if symmetric:
        for target, row_values in zip(targets, diagonal(x1), strict=True):
            index = torch.arange(len(x1), device=target.device)
            target[index, index] = row_values
    return targets


def tile_side(element_size: int, memory_budget: int) -> int:
    """Rows and columns of a tile whose arrays of ``element_size`` bytes fit the budget."""
    entries = memory_budget // (_LIVE_ARRAYS * element_size)
    return max(1, min(_LONGEST_SIDE, int(entries**0.5)))


def _slices(length: int, side: int) -> Iterator[slice]:
    for start in range(0, length, side):
        yield slice(start, min(start + side, length))


def _check_batches(x1: Tensor, x2: Tensor) -> None:
    if x1.ndim == 0 or x1.shape[1:] != x2.shape[1:]:
        raise SettingsError(
            f"A kernel compares batches of shape (n, *features) with equal features; these are "
            f"{tuple(x1.shape)} and {tuple(x2.shape)}."
        )
    if x1.dtype != x2.dtype or x1.device != x2.device:
        raise SettingsError(
            f"The batches must agree in dtype and device; these are {x1.dtype} on {x1.device} and "
            f"{x2.dtype} on {x2.device}."
        )


def _target(out: Output | None, x1: Tensor, columns: int) -> Tensor:
    if out is None:
        return x1.new_empty((len(x1), columns))
    target = torch.from_numpy(out) if isinstance(out, np.ndarray) else out
    if target.shape != (len(x1), columns) or target.dtype != x1.dtype:
        raise SettingsError(
            f"out has shape {tuple(target.shape)} and dtype {target.dtype}; it must have "
            f"{(len(x1), columns)} and {x1.dtype}, as the kernel has."
        )
    return target
