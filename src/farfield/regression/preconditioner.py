"""A matrix of low rank that stands for a kernel matrix, so that few iterations solve with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

_BLOCK = 100  # columns of the kernel that are taken at once
_ROUNDING = 1e-12  # share of the trace below which nothing is left to represent

Columns = Float[np.ndarray, "n k"]


@runtime_checkable
class KernelMatrix(Protocol):
    """A symmetric positive semi-definite matrix that is computed or read as it is needed."""

    def multiply(self, vectors: Columns) -> Columns:
        """K v."""

    def columns(self, chosen: np.ndarray) -> Columns:
        """K[:, chosen]."""

    def diagonal(self) -> Float[np.ndarray, " n"]:
        """The diagonal of K."""


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """``P = L L' + diag(ridge)``, whose inverse is applied by Woodbury's identity.

    Attributes:
        factor: L, (n, rank).
        ridge: (n,); positive.
    """

    factor: Float[np.ndarray, "n rank"]
    ridge: Float[np.ndarray, " n"]
    _core: tuple[np.ndarray, bool]

    @classmethod
    def of(cls, factor: Float[np.ndarray, "n rank"], ridge: np.ndarray) -> Preconditioner:
        """Make it ready to be applied."""
        core = factor.T @ (factor / ridge[:, None])
        core.ravel()[:: len(core) + 1] += 1.0
        return cls(factor, ridge, cho_factor(core, lower=True))

    @property
    def rank(self) -> int:
        """Columns of L."""
        return int(self.factor.shape[1])

    def __call__(self, vectors: Columns) -> Columns:
        """``P^{-1} v``."""
        scaled: Columns = vectors / self.ridge[:, None]
        if not self.rank:
            return scaled
        inner = cho_solve(self._core, self.factor.T @ scaled)
        result: Columns = scaled - (self.factor @ inner) / self.ridge[:, None]
        return result


def pivoted_cholesky(matrix: KernelMatrix, rank: int, seed: int) -> Float[np.ndarray, "n rank"]:
    """A factor L of low rank with ``K ~ L L'``, from a few columns of K.

    Columns are drawn with a probability in proportion to what is left of the diagonal, so that
    L L' is close to the best approximation of its rank.

    Args:
        matrix: K.
        rank: Columns to draw; fewer if nothing is left before.
        seed: Of the draws.

    Returns:
        L.

    Source: Chen, Epperly, Tropp and Webber, "Randomly pivoted Cholesky" (2022), algorithm 2.1, and
    its variant with blocks.
    """
    generator = np.random.default_rng(seed)
    left = matrix.diagonal().copy()
    total, size = left.sum(), len(left)
    factor = np.empty((size, 0))
    while factor.shape[1] < min(rank, size) and left.sum() > _ROUNDING * total:
        count = min(_BLOCK, rank - factor.shape[1], int((left > 0).sum()))
        chosen = generator.choice(size, count, replace=False, p=left / left.sum())
        rest = matrix.columns(chosen) - factor @ factor[chosen].T
        core = rest[chosen]
        # What the columns share is removed with a little of their diagonal.
        core.ravel()[:: count + 1] += 1e-10 * np.trace(core)
        root = cholesky(core, lower=True)
        new = solve_triangular(root, rest.T, lower=True).T
        factor = np.concatenate([factor, new], axis=1)
        left = np.maximum(left - np.einsum("ij,ij->i", new, new), 0.0)
        left[chosen] = 0.0
    return factor
