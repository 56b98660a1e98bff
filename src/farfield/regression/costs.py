"""What a product with a kernel matrix costs on this machine, by each way to form it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from farfield.kernel import Kernel
from farfield.machine import free_memory
from farfield.regression.cholesky import bytes_needed
from farfield.regression.matrices import cross_matrix
from farfield.regression.products import SIDE, Stored

_START = 32  # rows of the first tile that is timed
_RUNS = 5  # of which the shortest counts; the first one loads and compiles what has to be
_PATIENCE = 1.0  # seconds after which no third run is begun, nor a larger tile
_EXPECTED = 50  # products of a solve, about


@dataclass(frozen=True)
class CostModel:
    """Seconds of each way to form the products of a solve, from a few timed tiles.

    Half of the matrix is computed, or read, for a product; from memory all of it is used.

    Attributes:
        points: n.
        compute: Seconds for one number of the kernel.
        read: Seconds for one number of the store; infinite without a store.
        multiply: Seconds for one number, multiplied from memory.
        fits: Whether the matrix fits in the memory that is free.
        products: Products that are expected.
    """

    points: int
    compute: float
    read: float
    multiply: float
    fits: bool
    products: int = _EXPECTED

    @property
    def seconds(self) -> Mapping[str, float]:
        """Of all products, by each way; infinite where it cannot be gone."""
        half, whole = 0.5 * self.points**2, float(self.points) ** 2
        filled = half * self.compute if self.fits else math.inf
        return {
            "memory": filled + self.products * whole * self.multiply,
            "store": self.products * (half * self.read + whole * self.multiply),
            "recompute": self.products * (half * self.compute + whole * self.multiply),
        }

    @property
    def cheapest(self) -> str:
        """The way that takes least."""
        seconds = self.seconds
        return min(seconds, key=lambda name: seconds[name])

    def __str__(self) -> str:
        ways = ", ".join(
            f"{name} {value:.3g} s" for name, value in self.seconds.items() if value < math.inf
        )
        return f"{self.products} products of {self.points:,} points: {ways}"


def measured(kernel: Kernel, x: Tensor, stored: Stored | None) -> CostModel:
    """Time tiles of the kernel, one of the store, and a product.

    Tiles grow up to those of a product, since large ones are computed in other ways, unless the
    kernel is so slow that a larger one would take long.

    A store whose tiles the system still holds in memory seems as fast as that.

    Args:
        kernel: The kernel.
        x: Points.
        stored: Their matrix, if there is a store.

    Returns:
        What ways cost.
    """
    whole = min(SIDE, len(x))
    values, ones = np.ones((whole, whole)), np.ones((whole, 1))
    read = math.inf
    if stored is not None:
        rows = slice(0, min(stored.side, stored.shape[0]))
        read = _seconds(lambda: stored.read(rows, rows)) / rows.stop**2
    return CostModel(
        len(x),
        _compute(kernel, x, whole),
        read,
        _seconds(lambda: values @ ones) / values.size,
        bytes_needed(len(x)) <= free_memory(),
    )


def _compute(kernel: Kernel, x: Tensor, whole: int) -> float:
    """Seconds for a number of the largest tile that does not take long."""
    side = min(_START, whole)
    while True:
        first, second = x[:side], x[-side:]
        seconds = _seconds(partial(cross_matrix, kernel, first, second))
        if side == whole or seconds > _PATIENCE:
            return seconds / side**2
        side = min(2 * side, whole)


def _seconds(work: Callable[[], object]) -> float:
    """The shortest of a few runs: what else the machine does makes it longer, never shorter."""
    least, left = math.inf, _PATIENCE
    for run in range(_RUNS):
        begin = time.perf_counter()
        work()
        taken = time.perf_counter() - begin
        least, left = min(least, taken), left - taken
        if run and left <= 0.0:
            break
    return least
