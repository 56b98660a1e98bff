"""Points of which a kernel matrix is best made up: randomly pivoted Cholesky."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg import cholesky, solve_triangular
from torch import Tensor

from farfield.kernel import Kernel
from farfield.regression.matrices import cross_matrix, diagonal_of

_PROPOSALS = 200  # pivots that are proposed at once


def pivoted(
    kernel: Kernel, pool: Float[Tensor, "n *features"], count: int, seed: int
) -> Int[np.ndarray, " m"]:
    r"""Draw centres where the kernel is not yet spanned: randomly pivoted Cholesky.

    Each pivot is drawn with a probability in proportion to what the pivots before leave of
    k(x, x). Many are proposed at once, and accepted with the probability by which those
    before them have not made them less likely, which gives the same law. The memory is one
    number for each row of the pool and pivot.

    Args:
        kernel: The kernel.
        pool: The rows to choose from.
        count: How many to draw.
        seed: Of the draws.

    Returns:
        Rows of the pool; fewer than ``count`` if these span all others.

    Source: Chen, Epperly, Tropp and Webber, "Randomly pivoted Cholesky" (2022), algorithm 2.1; by
    rejection as in Epperly, Tropp and Webber, "Embrace rejection" (2024).
    """
    generator = np.random.default_rng(seed)
    whole = diagonal_of(kernel, pool)
    left = np.maximum(whole, 0.0)
    nothing = len(pool) * float(torch.finfo(pool.dtype).eps) * left
    count, proposals = min(count, len(pool)), min(_PROPOSALS, len(pool))
    factor = np.empty((len(pool), count), order="F")
    chosen: list[int] = []
    while len(chosen) < count and (left > nothing).any():
        done = len(chosen)
        proposed = generator.choice(len(pool), proposals, p=left / left.sum())
        known = factor[:, :done]
        points = pool[torch.from_numpy(proposed).to(pool.device)]
        rest = cross_matrix(kernel, points, points) - known[proposed] @ known[proposed].T
        accepted = _accepted(rest, generator.random(proposals) * left[proposed], nothing[proposed])
        accepted = accepted[: count - done]
        if not accepted:  # nothing but rounding was left of what was proposed
            left[proposed] = 0.0
            continue
        rows = proposed[accepted]
        corner = cholesky(rest[np.ix_(accepted, accepted)], lower=True)
        columns = cross_matrix(kernel, pool, pool[torch.from_numpy(rows).to(pool.device)])
        columns -= known @ known[rows].T
        new = solve_triangular(corner, columns.T, lower=True).T
        factor[:, done : done + len(rows)] = new
        left = np.maximum(left - np.einsum("ij,ij->i", new, new), 0.0)
        left[(left <= nothing) | np.isin(np.arange(len(pool)), rows)] = 0.0
        chosen += rows.tolist()
    return np.array(chosen, dtype=np.int64)


def _accepted(
    rest: Float[np.ndarray, "k k"], thresholds: np.ndarray, nothing: np.ndarray
) -> list[int]:
    """Which proposals are taken: what is left of them, given those before, is above a threshold."""
    rest = rest.copy()
    taken: list[int] = []
    for number, threshold in enumerate(thresholds):
        pivot = rest[number, number]
        if pivot > max(threshold, nothing[number]):
            taken.append(number)
            column = rest[:, number] / np.sqrt(pivot)
            rest -= np.outer(column, column)
    return taken
