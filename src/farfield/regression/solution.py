r"""What a solver found: a function ``f(x) = k(x, support) a``, and what is known of it.

Everything that is said of a fitted predictor (bounds, limits along rays, searches) uses this and
nothing else of the solver, so that it is said of the function that is actually computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_EPS = float(np.finfo(float).eps)
_KERNEL_ROUNDINGS = 10  # by which a computed kernel value may be off, of the root of k(x,x)k(y,y)


@runtime_checkable
class Posterior(Protocol):
    """What variances are computed with, where a solver has it."""

    def explained(self, cross: Float[np.ndarray, "k m"]) -> Float[np.ndarray, " k"]:
        """How much of ``k(x, x)`` the training points explain, from ``k(x, support)``."""

    def weights(self, cross: Float[np.ndarray, "k m"]) -> Float[np.ndarray, "k m"]:
        """``A = k(x, X) G^{-1}``, from ``k(x, X)``."""


@dataclass(frozen=True)
class SolverReport:
    """What a solver did.

    Attributes:
        solver: Its name.
        points: Distinct training points.
        support: Points that the function is made of: all of them, or chosen centres.
        residual: The largest ``|y - G a| / |y|`` of an output, computed from the coefficients.
        error_norm: The largest norm of what an output differs by from the exact solution, at
            most: ``|f(x) - f*(x)| <= sqrt(k(x, x)) error_norm``.
        seconds: Wall time, kernel included.
    """

    solver: str
    points: int
    support: int
    residual: float
    error_norm: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.solver}: {self.points:,} points, {self.seconds:.1f} s, "
            f"relative residual {self.residual:.1e}, "
            f"|f(x) - f*(x)| <= {self.error_norm:.1e} sqrt(k(x, x))"
        )


@dataclass(frozen=True, eq=False)
class Solution:
    r"""A function ``f(x) = k(x, support) a`` for each output.

    Attributes:
        support: The points that it is made of, in the dtype of the kernel.
        coefficients: a.
        squared_norms: ``a' K a`` with K of the support: the squared norm of f in the space of
            the kernel. What rounding can add is added, so that it is an upper bound.
        error_norms: An upper bound of the norm of ``f - f*``, with f* the exact solution of the
            problem that the solver solves: ``|f(x) - f*(x)| <= sqrt(k(x, x)) error_norms``.
            Infinite where nothing is proven.
        smallest_eigenvalue: Of the matrix that was inverted: computed (to about 1 %) by
            Cholesky, else a lower bound that is proven; 0 if none is.
        largest_eigenvalue: Of the same; computed (to about 1 %), or an upper bound.
        points: Training points that the targets belong to.
        largest_targets: The largest absolute target of each output.
        posterior: What variances are computed with; ``None`` if the solver has nothing.
        report: What the solver did.
    """

    support: Float[Tensor, "m *features"]
    coefficients: Float[np.ndarray, "m outputs"] = field(repr=False)
    squared_norms: Float[np.ndarray, " outputs"]
    error_norms: Float[np.ndarray, " outputs"]
    smallest_eigenvalue: float
    largest_eigenvalue: float
    points: int
    largest_targets: Float[np.ndarray, " outputs"]
    posterior: Posterior | None = field(repr=False)
    report: SolverReport


def squared_norms(
    coefficients: Float[np.ndarray, "m outputs"],
    product: Float[np.ndarray, "m outputs"],
    diagonal: Float[np.ndarray, " m"],
    dtype: torch.dtype,
) -> Float[np.ndarray, " outputs"]:
    """``a' K a`` of each output, and what rounding can add to it.

    Args:
        coefficients: a.
        product: ``K a``, as it was computed.
        diagonal: Of K.
        dtype: In which K was computed.

    Returns:
        An upper bound.
    """
    # The sum of m^2 terms |a_i| |K_ij| |a_j|, of which each is rounded, and |K_ij|^2 <= K_ii K_jj.
    sums = np.sqrt(diagonal) @ np.abs(coefficients)
    share = 2.0 * len(coefficients) * _EPS + _KERNEL_ROUNDINGS * float(torch.finfo(dtype).eps)
    with np.errstate(over="ignore", invalid="ignore"):  # a bound beyond all numbers is infinite
        found = np.einsum("ij,ij->j", coefficients, product)
        upper: np.ndarray = np.maximum(found, 0.0) + share * sums**2
    return np.where(np.isnan(upper), math.inf, upper)


def rounded_up(
    residual: Float[np.ndarray, "m outputs"],
    coefficients: Float[np.ndarray, "m outputs"],
    diagonal: Float[np.ndarray, " m"],
    dtype: torch.dtype,
    longest: int,
) -> Float[np.ndarray, "m outputs"]:
    """The size of each entry of ``r = y - G a``, and what rounding can hide of it.

    Args:
        residual: r, as it was computed.
        coefficients: a.
        diagonal: Of K.
        dtype: In which K was computed.
        longest: Numbers that were added up one after the other; m at most.

    Returns:
        Upper bounds.

    Source: Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1.
    """
    roots = np.sqrt(diagonal)
    share = (longest + 4) * _EPS + _KERNEL_ROUNDINGS * float(torch.finfo(dtype).eps)
    upper: np.ndarray = np.abs(residual) + share * roots[:, None] * (roots @ np.abs(coefficients))
    return upper


def error_norms(
    residual: Float[np.ndarray, "m outputs"],
    ridges: Float[np.ndarray, " m"],
    eigenvalue: float | int = 0.0,
) -> Float[np.ndarray, " outputs"]:
    r"""How far a function is from the exact solution, in the norm of the kernel's space.

    The difference has the coefficients ``e = G^{-1} r`` with ``G = K + R``, R = diag(ridges), and
    the squared norm ``e' K e``. With ``S = R^{-1/2} K R^{-1/2}`` and ``q = R^{-1/2} r`` it is
    ``q' (S + I)^{-1} S (S + I)^{-1} q <= |q|^2 / 4``, because ``s / (s + 1)^2 <= 1 / 4``. So

    ``|f - f*| <= 1/2 sqrt(sum_i r_i^2 / ridge_i)``,

    half of what ``|r| / sqrt(lambda_min)`` says with the ridge for the eigenvalue. Without a ridge
    it is the latter, with a lower bound of the eigenvalue.

    Args:
        residual: r = y - G a, or upper bounds of the sizes of its entries.
        ridges: What was added to the diagonal.
        eigenvalue: A lower bound of the smallest eigenvalue of G, 0 if there is none.

    Returns:
        An upper bound for each output, infinite if there is neither a ridge nor an eigenvalue.
    """
    length = _lengths(residual)
    bounds = [np.full(len(length), math.inf)]
    if ridges.min() > 0.0:
        bounds.append(0.5 * _lengths(residual / np.sqrt(ridges)[:, None]))
    if eigenvalue > 0.0:
        bounds.append(length / math.sqrt(eigenvalue))
    least: np.ndarray = np.where(length > 0.0, np.minimum.reduce(bounds), 0.0)
    return least


def relative(residual: np.ndarray, targets: np.ndarray) -> Sequence[float]:
    """The norms of residuals over those of the targets; of targets that are 0 their own."""
    sizes = _lengths(targets)
    ratios: list[float] = (_lengths(residual) / np.where(sizes > 0, sizes, 1.0)).tolist()
    return ratios


def _lengths(columns: np.ndarray) -> np.ndarray:
    """The norm of each column, whose squares may be beyond all numbers."""
    largest = np.abs(columns).max(axis=0)
    largest = np.where(largest > 0, largest, 1.0)
    lengths: np.ndarray = np.linalg.norm(columns / largest, axis=0) * largest
    return lengths
