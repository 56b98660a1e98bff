"""Points of which a kernel matrix is best made up: randomly pivoted Cholesky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg import cholesky, solve_triangular
from torch import Tensor

from farfield.kernel import Kernel
from farfield.regression.matrices import cross_matrix, diagonal_of

_PROPOSALS = 200  # pivots that are proposed at once


@dataclass(frozen=True, eq=False)
class Pivots:
    """Some points, and the partial Cholesky factor of the kernel matrix that they are pivots of.

    Attributes:
        rows: The points, in the order in which they were drawn.
        factor: L with ``K ~ L L'``, (n, m); ``K - L L'`` is positive semi-definite.
        left: The diagonal of ``K - L L'``; what is below rounding counts as 0.
    """

    rows: Int[np.ndarray, " m"]
    factor: Float[np.ndarray, "n m"]
    left: Float[np.ndarray, " n"]


def pivoted(kernel: Kernel, x: Float[Tensor, "n *features"], count: int, seed: int) -> Pivots:
    r"""Draw points where the kernel is not yet spanned: randomly pivoted Cholesky.

    Each pivot is drawn with a probability in proportion to what the pivots before leave of
    k(x, x), so that L L' is close to the best approximation of its rank. Many are proposed at once,
    and accepted with the probability by which those before them have not made them less likely,
    which gives the same law. What is not told from 0 in the dtype of the points is no pivot. The
    memory is one number for each point and pivot.

    Args:
        kernel: The kernel.
        x: The points to choose from.
        count: How many to draw; fewer are drawn if these span all others.
        seed: Of the draws.

    Returns:
        The pivots and their factor.

    Source: Chen, Epperly, Tropp and Webber, "Randomly pivoted Cholesky" (2022), algorithm 2.1; by
    rejection as in Epperly, Tropp and Webber, "Embrace rejection" (2024).
    """
    generator = np.random.default_rng(seed)
    left = np.maximum(diagonal_of(kernel, x), 0.0)
    nothing = len(x) * float(torch.finfo(x.dtype).eps) * left
    count, proposals = min(count, len(x)), min(_PROPOSALS, len(x))
    factor = np.empty((len(x), count), order="F")
    chosen: list[int] = []
    while len(chosen) < count and (left > nothing).any():
        done = len(chosen)
        proposed = generator.choice(len(x), proposals, p=left / left.sum())
        known = factor[:, :done]
        points = _chosen(x, proposed)
        rest = cross_matrix(kernel, points, points) - known[proposed] @ known[proposed].T
        accepted = _accepted(rest, generator.random(proposals) * left[proposed], nothing[proposed])
        accepted = accepted[: count - done]
        if not accepted:  # nothing but rounding was left of what was proposed
            left[proposed] = 0.0
            continue
        rows = proposed[accepted]
        corner = cholesky(rest[np.ix_(accepted, accepted)], lower=True)
        columns = cross_matrix(kernel, x, _chosen(x, rows))
        columns -= known @ known[rows].T
        new = solve_triangular(corner, columns.T, lower=True).T
        factor[:, done : done + len(rows)] = new
        left = np.maximum(left - np.einsum("ij,ij->i", new, new), 0.0)
        left[(left <= nothing) | np.isin(np.arange(len(x)), rows)] = 0.0
        chosen += rows.tolist()
    return Pivots(np.array(chosen, dtype=np.int64), factor[:, : len(chosen)], left)


def _chosen(x: Tensor, rows: np.ndarray) -> Tensor:
    return x[torch.from_numpy(rows).to(x.device)]


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
