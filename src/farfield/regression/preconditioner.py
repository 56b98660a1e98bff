"""A matrix of low rank that stands for a kernel matrix, so that few iterations solve with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

_BLOCK = 100  # columns of the kernel that are taken at once
_ROWS = 4096  # rows of L that are looked at together
_ROUNDING = 1e-12  # share of the trace below which nothing is left to represent

Columns = Float[np.ndarray, "n k"]
Choose = Callable[[np.ndarray], Columns]
"""Some columns of a matrix, by their numbers."""


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """``P = L L' + diag(shift)``, whose inverse is applied by Woodbury's identity.

    Attributes:
        factor: L, (n, rank).
        shift: (n,); positive.
    """

    factor: Float[np.ndarray, "n rank"]
    shift: Float[np.ndarray, " n"]
    _core: tuple[np.ndarray, bool]

    @classmethod
    def of(
        cls, factor: Float[np.ndarray, "n rank"], shift: Float[np.ndarray, " n"]
    ) -> Preconditioner:
        """Make it ready to be applied."""
        core = np.zeros((factor.shape[1], factor.shape[1]))
        for start in range(0, len(factor), _ROWS):  # without a second factor
            rows = slice(start, start + _ROWS)
            core += factor[rows].T @ (factor[rows] / shift[rows, None])
        core.ravel()[:: len(core) + 1] += 1.0
        return cls(factor, shift, cho_factor(core, lower=True))

    @property
    def rank(self) -> int:
        """Columns of L."""
        return int(self.factor.shape[1])

    def __call__(self, vectors: Columns) -> Columns:
        """``P^{-1} v``."""
        scaled: Columns = vectors / self.shift[:, None]
        if not self.rank:
            return scaled
        inner = cho_solve(self._core, self.factor.T @ scaled)
        result: Columns = scaled - (self.factor @ inner) / self.shift[:, None]
        return result


def pivoted_cholesky(
    columns: Choose, diagonal: Float[np.ndarray, " n"], rank: int, seed: int
) -> tuple[Float[np.ndarray, "n rank"], float]:
    """A factor L of low rank with ``K ~ L L'``, from a few columns of K.

    Columns are drawn with a probability in proportion to what is left of the diagonal, so that
    L L' is close to the best approximation of its rank. ``K - L L'`` stays positive semi-definite.

    Args:
        columns: Those of K.
        diagonal: Of K.
        rank: Columns to draw; fewer if nothing is left before.
        seed: Of the draws.

    Returns:
        L, and the mean of what is left of the diagonal.

    Source: Chen, Epperly, Tropp and Webber, "Randomly pivoted Cholesky" (2022), algorithm 2.1, and
    its variant with blocks.
    """
    generator = np.random.default_rng(seed)
    left, size = diagonal.copy(), len(diagonal)
    total, done = float(left.sum()), 0
    factor = np.empty((size, min(rank, size)))
    # Rounding of the columns, which what is left of them can be as small as.
    noise = 100.0 * np.finfo(float).eps * float(diagonal.max())
    while done < factor.shape[1] and left.sum() > _ROUNDING * total:
        count = min(_BLOCK, factor.shape[1] - done, int((left > 0).sum()))
        chosen = generator.choice(size, count, replace=False, p=left / left.sum())
        rest = columns(chosen) - factor[:, :done] @ factor[chosen, :done].T
        core = rest[chosen]
        # What the columns share is removed with a little of their diagonal.
        core.ravel()[:: count + 1] += 1e-10 * np.trace(core) + noise * count
        root = cholesky(0.5 * (core + core.T), lower=True)
        new = solve_triangular(root, rest.T, lower=True).T
        factor[:, done : done + count] = new
        done += count
        left = np.maximum(left - np.einsum("ij,ij->i", new, new), 0.0)
        left[chosen] = 0.0
    return factor[:, :done], float(left.mean())


def preconditioner(
    columns: Choose,
    diagonal: Float[np.ndarray, " n"],
    ridges: Float[np.ndarray, " n"],
    rank: int,
    seed: int,
) -> Preconditioner:
    """One for ``K + diag(ridges)``.

    What L L' leaves of K is not 0, so that its mean is the least that is added in place of a
    smaller ridge. That changes no bound of the condition number, and Woodbury's identity keeps
    its digits without a ridge as well.

    Args:
        columns: Those of K.
        diagonal: Of K.
        ridges: What is added to it.
        rank: Of L; 0 for the diagonal alone.
        seed: Of the draws.

    Returns:
        The preconditioner.
    """
    factor, left = pivoted_cholesky(columns, diagonal, rank, seed)
    least = max(left, _ROUNDING * float(diagonal.mean())) or 1.0
    return Preconditioner.of(factor, np.maximum(ridges, least))
