"""A kernel matrix by its eigenvalues: one decomposition for many times of training, or ridges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import eigh

from farfield.errors import RangeError
from farfield.kernel import Kernel
from farfield.regression.conditioning import SINGULAR
from farfield.regression.duplicates import Merged
from farfield.regression.matrices import train_matrix


@dataclass(frozen=True, eq=False)
class Modes:
    r"""The eigenvectors of ``C^1/2 K C^1/2``, with K of the distinct inputs and C their counts.

    Everything linear that is done to all n points, duplicates included, is a function h of these
    eigenvalues: the coefficients of k(x, X) are ``C^1/2 V h(values) V' C^1/2 y``. The rest
    of the n eigenvalues, one for each merged duplicate, are 0 and never seen at any input.

    Attributes:
        values: Eigenvalues, ascending; those that rounding made negative are 0.
        vectors: V, (m, m).
        root_counts: C^1/2, (m,).
        resolved: Which eigenvalues are told from 0 in the kernel's precision.
    """

    values: Float[np.ndarray, " m"]
    vectors: Float[np.ndarray, "m m"]
    root_counts: Float[np.ndarray, " m"]
    resolved: np.ndarray

    def parts(self, y: Float[np.ndarray, "m outputs"]) -> Float[np.ndarray, "m outputs"]:
        """What of the targets belongs to each eigenvector."""
        result: np.ndarray = self.vectors.T @ (self.root_counts[:, None] * y)
        return result

    def coefficients(
        self, filtered: Float[np.ndarray, "*batch m outputs"]
    ) -> Float[np.ndarray, "*batch m outputs"]:
        """From parts, each multiplied by a function of its eigenvalue, to coefficients."""
        result: np.ndarray = self.root_counts[:, None] * (self.vectors @ filtered)
        return result


def modes_of(kernel: Kernel, merged: Merged, dtype: torch.dtype) -> Modes:
    """Decompose the kernel of the training points; it takes about three matrices of memory.

    Args:
        kernel: The kernel.
        merged: The distinct training points.
        dtype: The dtype the kernel is computed in.

    Returns:
        Its eigenvalues and eigenvectors.

    Raises:
        RangeError: The kernel is not finite.
    """
    matrix = train_matrix(kernel, merged.x, dtype)
    if not np.isfinite(matrix).all():
        raise RangeError(
            f"The kernel of the {len(matrix)} training points is not finite: it grows beyond the "
            f"range of {dtype}. Scale the inputs down, or put a norm into the network."
        )
    roots = np.sqrt(merged.counts)
    matrix *= roots
    matrix *= roots[:, None]
    values, vectors = eigh(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    floor = SINGULAR * float(torch.finfo(dtype).eps) * values[-1]
    return Modes(np.maximum(values, 0.0), vectors, roots, values > floor)
