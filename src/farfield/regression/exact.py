"""What is known of coefficients that were found for the equations of all points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from farfield.regression.problem import Problem
from farfield.regression.solution import (
    Posterior,
    Solution,
    SolverReport,
    error_norms,
    relative,
    rounded_up,
    squared_norms,
)

Report = Callable[[float, float], SolverReport]
"""Made from the relative residual and the largest norm of an error."""


def solution_of_all(
    problem: Problem,
    coefficients: Float[np.ndarray, "m outputs"],
    product: Float[np.ndarray, "m outputs"],
    residual: Float[np.ndarray, "m outputs"],
    diagonal: Float[np.ndarray, " m"],
    longest: int,
    eigenvalues: tuple[float, float],
    posterior: Posterior | None,
    report: Report,
) -> Solution:
    """The function of the coefficients, with its norm and its distance to the exact one.

    Args:
        problem: What was solved.
        coefficients: a.
        product: ``K a``, as it was computed.
        residual: ``y - (K + ridges) a``, likewise.
        diagonal: Of K.
        longest: Numbers that a product added up one after the other.
        eigenvalues: The smallest of the matrix with its ridge (0 if nothing is known of it), and
            the largest.
        posterior: What variances are computed with, if there is anything.
        report: Makes what is told of the solver.

    Returns:
        The solution.
    """
    merged, dtype = problem.merged, problem.dtype
    targets = merged.y.numpy()
    sizes = rounded_up(residual, coefficients, diagonal, dtype, longest)
    norms = error_norms(sizes, problem.ridges, eigenvalues[0])
    return Solution(
        merged.x,
        coefficients,
        squared_norms(coefficients, product, diagonal, dtype),
        norms,
        *eigenvalues,
        len(targets),
        np.abs(targets).max(axis=0),
        posterior,
        report(max(relative(residual, targets)), float(norms.max())),
    )
