"""Equal training inputs: found, and merged into one point each."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.errors import DuplicateWarning


@dataclass(frozen=True, eq=False)
class Merged:
    """Training points with distinct inputs.

    Attributes:
        x: The distinct inputs, in the order in which they first occur.
        y: The mean target of each.
        first: Which point each of them is, the first of its duplicates.
        counts: How many points each stands for.
        conflicts: How many of them stand for points whose targets differ.
    """

    x: Float[Tensor, "m *features"]
    y: Float[Tensor, "m outputs"]
    first: Int[np.ndarray, " m"]
    counts: Int[np.ndarray, " m"]
    conflicts: int

    @property
    def points(self) -> int:
        """How many points there were."""
        return int(self.counts.sum())

    def warn(self) -> None:
        """Warn that some targets were averaged."""
        if self.conflicts:
            warnings.warn(
                f"{self.conflicts} of the {len(self.counts)} distinct inputs occur several times "
                "with different targets, which no function can meet; each gets the mean of its "
                "targets. Give ridge > 0 if the targets are noisy, or remove the duplicates.",
                DuplicateWarning,
                stacklevel=3,
            )


def merge_duplicates(x: Float[Tensor, "n *features"], y: Float[Tensor, "n outputs"]) -> Merged:
    r"""Merge points with equal inputs into one with the mean of their targets.

    Nothing is lost by it. With k(x, X) of the distinct inputs, c their counts and m the mean
    targets, the regression on all n points is the one on the distinct ones with the ridge r / c:
    ``k(x, X) (K + r diag(1 / c))^{-1} m``. For r -> 0 it becomes the interpolation of the means,
    which is also what gradient descent on squared errors converges to.

    Args:
        x: Inputs; two are equal when all their numbers are.
        y: Targets.

    Returns:
        The distinct points.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [1.0]], dtype=torch.float64)
        >>> y = torch.tensor([[0.0], [5.0], [6.0]], dtype=torch.float64)
        >>> merged = merge_duplicates(x, y)
        >>> merged.y.flatten().tolist(), merged.counts.tolist(), merged.conflicts
        ([3.0, 5.0], [2, 1], 1)
    """
    first, group = _groups(x)
    counts = np.bincount(group, minlength=len(first))
    if len(first) == len(x):
        return Merged(x, y, first, counts, 0)
    index = torch.from_numpy(group)
    # Sums of differences to the first target: equal targets are kept to the bit.
    base = y[torch.from_numpy(first)]
    gaps = y - base[index]
    sums = torch.zeros_like(base).index_add_(0, index, gaps)
    differing = torch.zeros(len(first), dtype=torch.bool)
    differing[index[(gaps != 0).any(1)]] = True
    means = base + sums / torch.from_numpy(counts)[:, None]
    return Merged(x[torch.from_numpy(first)], means, first, counts, int(differing.sum()))


def _groups(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Where each distinct row first occurs, in order, and which of them each row is."""
    rows = x.detach().cpu().numpy().reshape(len(x), -1)
    if rows.shape[1] == 0:
        return np.zeros(min(len(x), 1), dtype=np.int64), np.zeros(len(x), dtype=np.int64)
    # Compared byte by byte, which is fast; -0.0 has to become 0.0 first.
    whole = np.ascontiguousarray(rows + 0.0)
    keys = whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.ravel()]
