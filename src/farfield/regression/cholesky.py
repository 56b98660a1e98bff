"""Kernel regression by a Cholesky factor of the whole kernel matrix."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from farfield.regression.conditioning import factorise_safely
from farfield.regression.exact import solution_of_all
from farfield.regression.matrices import diagonal_of, train_matrix
from farfield.regression.problem import Problem
from farfield.regression.solution import Solution, SolverReport

BESIDE = 2**30
"""Bytes that a fit of many points takes beside its matrix."""

_MANY = 4096  # points from which that is so


def bytes_needed(points: int) -> int:
    """Memory that a factorisation takes, at most.

    Args:
        points: Distinct training points.

    Returns:
        Bytes.
    """
    return 8 * points**2 + (BESIDE if points > _MANY else 0)


@dataclass(frozen=True)
class Cholesky:
    """The exact solution, in the memory of one n x n matrix and n^3 / 3 multiplications.

    Source: Golub and Van Loan, "Matrix Computations", section 4.2.9.

    Example:
        >>> import torch, farfield as ff
        >>> limit = ff.infinite_width(ff.mlp(1, [8], 1), 2.0, 0.1)
        >>> x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
        >>> fit = ff.KernelRegression(limit.ntk, solver=ff.Cholesky()).fit(x, x)
        >>> fit.report.solver
        'cholesky'
    """

    def solve(self, problem: Problem) -> Solution:
        """The coefficients, and what is known of them.

        Args:
            problem: What to solve.

        Returns:
            The solution; it can tell variances.

        Raises:
            SingularKernelError: The smallest eigenvalue cannot be told from 0.
            RangeError: The kernel is not finite.
        """
        start = time.perf_counter()
        merged, dtype = problem.merged, problem.dtype
        matrix = train_matrix(problem.kernel, merged.x, dtype)
        duplicates = len(problem.x) - len(merged.x)
        factor = factorise_safely(matrix, problem.ridges, dtype, duplicates)
        targets = merged.y.numpy()
        coefficients = factor.solve(np.asfortranarray(targets))
        product = factor.multiply_kernel(np.asfortranarray(coefficients))
        residual = targets - product - problem.ridges[:, None] * coefficients
        points = len(targets)
        return solution_of_all(
            problem,
            coefficients,
            product,
            residual,
            diagonal_of(problem.kernel, merged.x),
            points,
            (factor.smallest_eigenvalue, factor.largest_eigenvalue),
            factor,
            lambda relative, error: SolverReport(
                "cholesky", points, points, relative, error, time.perf_counter() - start
            ),
        )
