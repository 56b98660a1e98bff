"""Whether a kernel matrix can be inverted in its precision, and what to do when it cannot."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import eigh

from farfield.errors import ConditioningWarning, RangeError, SingularKernelError
from farfield.regression.solve import Factor, closest_pair, factorise, is_finite, matrix_of

SINGULAR = 10.0
"""An eigenvalue below this many roundings of the largest one is not told from 0."""

FEWEST_DIGITS = 1e-4
"""The relative error from which there is a warning."""

LARGEST_SQUARED = 1e150
"""Eigenvalues are squared on the way, so they must be less."""

_LARGEST_DENSE = 2000  # rows of which all eigenvalues are computed for a message


def factorise_safely(
    matrix: Float[np.ndarray, "n n"], ridge: np.ndarray, dtype: torch.dtype, merged: int = 0
) -> Factor:
    """Factorise a kernel matrix in place, and say so when it cannot be trusted.

    Args:
        matrix: The kernel matrix, overwritten.
        ridge: What to add to its diagonal.
        dtype: The dtype in which the kernel was computed.
        merged: How many duplicate points were merged, for the message.

    Returns:
        The factor.

    Raises:
        SingularKernelError: The smallest eigenvalue cannot be told from 0.
        RangeError: The kernel is not finite.

    Warns:
        ConditioningWarning: Predictions have fewer than 4 digits that are certain.
    """
    rounding = float(torch.finfo(dtype).eps)
    if not float(matrix.diagonal().max()) * len(matrix) < LARGEST_SQUARED:
        raise not_finite(len(matrix), dtype)
    factor = factorise(matrix, ridge)
    if not isinstance(factor, Factor):
        if not is_finite(matrix.T):
            raise not_finite(len(matrix), dtype)
        packed, diagonal = matrix.T, matrix.diagonal().copy()
        raise SingularKernelError(
            f"The kernel matrix of {len(matrix)} training points is singular in {dtype}: "
            f"{_failure(packed, diagonal, factor)} {_alike(packed, diagonal, merged)}"
            f"{ways_out(dtype)}"
        )
    smallest, largest = factor.smallest_eigenvalue, factor.largest_eigenvalue
    state = (
        f"its smallest eigenvalue is about {smallest:.2g}, its largest {largest:.2g}. "
        f"{_alike(factor.packed, factor.diagonal, merged)}"
    )
    if smallest <= SINGULAR * rounding * largest:
        raise SingularKernelError(
            f"The kernel matrix of {len(matrix)} training points is singular in {dtype}: {state}"
            f"{ways_out(dtype)}"
        )
    if rounding * largest > FEWEST_DIGITS * smallest:
        warnings.warn(
            f"The kernel matrix of {len(matrix)} training points is close to singular in {dtype}: "
            f"{state}Relative errors of up to {rounding * largest / smallest:.0e} are possible. "
            f"{ways_out(dtype)}",
            ConditioningWarning,
            stacklevel=4,
        )
    return factor


def not_finite(points: int, dtype: torch.dtype) -> RangeError:
    """What is said of a kernel that cannot be computed with."""
    return RangeError(
        f"The kernel of the {points} training points is not finite, or too large to be computed "
        f"with: it grows beyond the range of {dtype}. Scale the inputs down, or put a norm into "
        "the network."
    )


def _failure(packed: Float[np.ndarray, "n n"], diagonal: np.ndarray, leading: int) -> str:
    """What the eigenvalues of a matrix are that has no Cholesky factor."""
    if len(diagonal) > _LARGEST_DENSE:
        return f"not even its first {leading + 1} rows have a Cholesky factor."
    values = eigh(matrix_of(packed, diagonal), eigvals_only=True)
    return f"its smallest eigenvalue is about {values[0]:.2g}, its largest {values[-1]:.2g}."


def _alike(packed: Float[np.ndarray, "n n"], diagonal: np.ndarray, merged: int) -> str:
    """What makes eigenvalues small."""
    text = f"({merged} exact duplicates were merged.) " if merged else ""
    if len(diagonal) > 1:
        one, other, gap = closest_pair(packed, diagonal)
        text += f"The points most alike are {one} and {other} (1 - correlation: {gap:.1g}). "
    return text


def ways_out(dtype: torch.dtype) -> str:
    """What helps where a kernel matrix is close to singular."""
    precision = "" if dtype == torch.float64 else "compute the kernel in float64; "
    return (
        f"What helps: {precision}a ridge (KernelRegression(kernel, ridge=1e-6)); biases in the "
        "network (bias_var > 0), without which inputs on a line through the origin are too much "
        "alike; merging near-duplicate points; or GradientFlow, which needs no inverse."
    )
