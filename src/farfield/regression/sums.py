r"""What a regression on a few centres needs of the rows, however many: two sums.

With the basis phi of :mod:`farfield.regression.centres` they are ``G = sum_i phi(x_i) phi(x_i)'``
and ``c = sum_i phi(x_i) y_i'``. In this basis the norm of ``f = phi' b`` is that of b, and the
conditioning of the centres does not enter G: sums of plain products of kernels would have it
squared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.kernel import Kernel
from farfield.regression.centres import Basis

_TILE_BYTES = 64 * 2**20  # of the kernel between a tile of rows and the centres
_FEWEST_ROWS = 256  # of a tile, however many centres there are
_PANEL = 320  # columns of G that one product adds to

Read = Callable[[slice], Tensor]
"""Gives some of the rows, such as ``x.__getitem__`` of a tensor."""


@dataclass(eq=False)
class Sums:
    """What the rows have come to so far; grows by :meth:`add`.

    Attributes:
        gram: G, of which the upper triangle is kept.
        moments: c.
        largest: The largest absolute target of each output.
        rows: How many rows.
    """

    gram: Float[Tensor, "r r"]
    moments: Float[Tensor, "r outputs"]
    largest: Float[Tensor, " outputs"]
    rows: int = 0

    @classmethod
    def nothing(cls, size: int, outputs: int) -> Sums:
        """Those of no rows at all."""
        gram, moments, largest = (
            torch.zeros(shape, dtype=torch.float64)
            for shape in ((size, size), (size, outputs), (outputs,))
        )
        return cls(gram, moments, largest)

    def add(self, features: Float[Tensor, "k r"], y: Float[Tensor, "k outputs"]) -> None:
        """Add some rows."""
        for start in range(0, len(self.gram), _PANEL):
            panel = slice(start, start + _PANEL)
            self.gram[panel, start:].addmm_(features[:, panel].mT, features[:, start:])
        self.moments.addmm_(features.mT, y)
        self.largest = torch.maximum(self.largest, y.abs().amax(0))
        self.rows += len(y)

    def whole_gram(self) -> Float[Tensor, "r r"]:
        """G with both triangles."""
        return self.gram.triu() + self.gram.triu(1).mT


def tile_rows(centres: int) -> int:
    """Rows of a tile."""
    return max(_FEWEST_ROWS, _TILE_BYTES // (8 * centres))


@torch.no_grad()
def add_rows(
    sums: Sums,
    kernel: Kernel,
    basis: Basis,
    x: Read,
    y: Read,
    count: int,
    after: Callable[[Sums], None] | None = None,
) -> None:
    """Add the rows that are still missing, tile by tile.

    Tiles begin at the same rows wherever an earlier run ended, so that a run that goes on comes
    to the same bits.

    Args:
        sums: Those of the first ``sums.rows`` rows; changed.
        kernel: The kernel.
        basis: The basis.
        x: Gives inputs, in the dtype in which the kernel is computed.
        y: Gives targets, (k, outputs); finite.
        count: How many rows there are.
        after: Called after each tile.

    Raises:
        SettingsError: Inputs that are not finite, or do not fit the centres.
    """
    step = tile_rows(len(basis))
    for start in range(sums.rows, count, step):
        rows = slice(start, min(start + step, count))
        targets = y(rows).to("cpu", torch.float64)
        cross = kernel(x(rows), basis.centres).to("cpu", torch.float64)
        sums.add(basis.features_(cross), targets)
        if after is not None:
            after(sums)
