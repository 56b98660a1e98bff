"""A matrix of low rank that stands for a kernel matrix, so that few iterations solve with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor

from farfield.kernel import Kernel
from farfield.regression.matrices import diagonal_of
from farfield.regression.pivots import pivoted

_ROWS = 4096  # rows of L that are looked at together
_ROUNDING = 1e-12  # share of the diagonal that is added at least

Columns = Float[np.ndarray, "n k"]


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


def preconditioner(
    kernel: Kernel,
    x: Float[Tensor, "n *features"],
    ridges: Float[np.ndarray, " n"],
    rank: int,
    seed: int,
) -> Preconditioner:
    """One for ``K + diag(ridges)``: L is the factor of randomly drawn pivots.

    What L L' leaves of K is not 0, so that its mean is the least that is added in place of a
    smaller ridge. That changes no bound of the condition number, and Woodbury's identity keeps
    its digits without a ridge as well.

    Args:
        kernel: Of which K is the matrix of the points.
        x: The points.
        ridges: What is added to the diagonal of K.
        rank: Of L; 0 for the diagonal alone.
        seed: Of the draws.

    Returns:
        The preconditioner.
    """
    # linear_operator's pivoted Cholesky takes the largest of what is left of the diagonal, which
    # outliers mislead, and one column after the other; SciPy's (LAPACK's dpstrf) needs all of K.
    found = pivoted(kernel, x, rank, seed)
    typical = float(diagonal_of(kernel, x).mean())
    least = max(float(found.left.mean()), _ROUNDING * typical) or 1.0
    return Preconditioner.of(found.factor, np.maximum(ridges, least))
