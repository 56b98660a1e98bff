r"""Kernel regression on a few centres: any number of rows, in the memory of the centres."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.errors import ConditioningWarning, RangeError, SettingsError, SingularKernelError
from farfield.kernel import Kernel
from farfield.regression.centres import Basis, basis_of
from farfield.regression.conditioning import FEWEST_DIGITS, LARGEST_SQUARED, SINGULAR
from farfield.regression.matrices import check_inputs, diagonal_of, train_matrix
from farfield.regression.pivots import pivoted
from farfield.regression.problem import Problem
from farfield.regression.solution import Solution, SolverReport, relative, squared_norms
from farfield.regression.solve import Factor, factorise
from farfield.regression.sums import Read, Sums, add_rows

_POOL = 10  # random rows for each centre, among which pivots are drawn
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class Nystrom:
    r"""The best function on a few centres, for any number of rows.

    Of all ``f(x) = sum_j a_j k(x, z_j)`` it is the one that minimises

    ``sum_i (f(x_i) - y_i)^2 + ridge |f|^2``,

    which with all training points for centres is that of ``solver="cholesky"``, for the same
    ridge. n rows and m centres take n m values of the kernel, 2 n m^2 multiplications and
    additions, and the memory of a few m x m matrices and a tile; rows are read tile by tile
    (:func:`farfield.scale.fit` takes them from files).

    Standard deviations are those of the deterministic training conditional (DTC, also called
    projected process): with phi and G of :mod:`farfield.regression.sums`
    ``k(x, x) - |phi(x)|^2 + ridge phi(x)' (G + ridge I)^{-1} phi(x)``. Far from all centres
    they are those of the prior; the subset of regressors, which has the same mean, has only the
    last term and would be certain there.

    Args:
        centres: How many; or the centres themselves, (m, *features).
        choice: ``"random"`` takes rows at random; ``"pivoted"`` takes those that the kernel tells
            apart best, by randomly pivoted Cholesky on 10 random rows for each centre.
        seed: Of what is drawn at random.

    Raises:
        SettingsError: No centres, or an unknown choice.

    Source: Rasmussen and Williams (2006), sections 8.3.1 and 8.3.3; Quinonero-Candela and
    Rasmussen (2005), sections 5 and 6, for the names; Rudi, Carratino and Rosasco, "FALKON" (2017)
    for the basis.

    Example:
        >>> import torch, farfield as ff
        >>> limit = ff.infinite_width(ff.mlp(1, [8, 8], 1, norm="layer"), 2.0, 0.1)
        >>> x = torch.linspace(-3, 3, 1000, dtype=torch.float64)[:, None]
        >>> fit = ff.KernelRegression(limit.ntk, 1e-3, solver=ff.Nystrom(50)).fit(x, x.square())
        >>> fit.support.shape, round(fit.predict(2.0 * torch.ones(1, 1)).item(), 1)
        (torch.Size([50, 1]), 4.0)
        >>> cert = ff.certify(fit)
        >>> cert.bounded, cert.worst_found.value <= cert.bound.largest
        (True, True)
    """

    centres: int | Float[Tensor, "m *features"] = 1000
    choice: str = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no number of centres, no batch of them, and no choice."""
        given: object = self.centres
        if not isinstance(given, int | Tensor):
            raise SettingsError(
                f"centres is of type {type(given).__name__}; it must be a whole number or a tensor "
                "of centres, (m, *features)."
            )
        number = given if isinstance(given, int) else len(given)
        if number < 1:
            raise SettingsError(f"centres is {number}; there must be at least 1.")
        if self.choice not in ("random", "pivoted"):
            raise SettingsError(f"choice is {self.choice!r}; it must be 'random' or 'pivoted'.")
        if isinstance(self.centres, Tensor):
            check_inputs(self.centres)

    def solve(self, problem: Problem) -> Solution:
        """The coefficients, and what is known of them.

        Args:
            problem: What to solve.

        Returns:
            The solution, whose support are the centres.

        Raises:
            SettingsError: Centres with other features than the rows.
            SingularKernelError: The rows and the ridge do not determine the function.
            RangeError: A kernel that is not finite, or too large.

        Warns:
            ConditioningWarning: Predictions have fewer than 4 digits that are certain.
        """
        start = time.perf_counter()
        x, y = problem.x, problem.y
        basis = basis_of(problem.kernel, self.drawn(problem.kernel, x.__getitem__, len(x)))
        sums = Sums.nothing(len(basis), y.shape[1])
        add_rows(sums, problem.kernel, basis, x.__getitem__, y.__getitem__, len(x))
        return solution_of(problem.kernel, basis, sums, problem.ridge, start)

    def drawn(self, kernel: Kernel, read: Read, count: int) -> Float[Tensor, "m *features"]:
        """The centres.

        Args:
            kernel: By which pivots are told apart.
            read: Gives the rows.
            count: How many rows there are.

        Returns:
            The centres, in the dtype and on the device of the rows.

        Raises:
            SettingsError: Given centres with other features than the rows.
        """
        first = read(slice(0, 1))
        if isinstance(self.centres, Tensor):
            if self.centres.shape[1:] != first.shape[1:]:
                raise SettingsError(
                    f"The centres have features of shape {tuple(self.centres.shape[1:])}, and the "
                    f"rows {tuple(first.shape[1:])}; they must be the same."
                )
            return self.centres.detach().to(first)
        generator = np.random.default_rng(self.seed)
        share = _POOL if self.choice == "pivoted" else 1
        chosen = generator.choice(count, min(share * self.centres, count), False, shuffle=False)
        pool = torch.cat([read(slice(k, k + 1)) for k in sorted(chosen.tolist())])
        if self.choice == "random":
            return pool
        rows = pivoted(kernel, pool, self.centres, self.seed).rows
        return pool[torch.from_numpy(rows).to(pool.device)]


@dataclass(frozen=True)
class NystromReport(SolverReport):
    """What the solver did; nothing is proven of how far the function of all points is.

    Attributes:
        left_out: Centres that were left out because the others span them.
        rounding: Relative error that G may have, by the spread of the pivots of the centres.
    """

    left_out: int
    rounding: float

    def __str__(self) -> str:
        return (
            f"{self.solver}: {self.points:,} points, {self.seconds:.1f} s, relative residual "
            f"{self.residual:.1e}; {self.support:,} centres, {self.left_out} more were spanned by "
            "them"
        )


@dataclass(frozen=True, eq=False)
class Projected:
    """The posterior of the deterministic training conditional.

    Attributes:
        basis: The basis.
        factor: Of G + ridge I.
        ridge: The variance of the noise.
    """

    basis: Basis
    factor: Factor
    ridge: float

    def explained(self, cross: Float[np.ndarray, "k m"]) -> Float[np.ndarray, " k"]:
        """``|phi|^2 - ridge phi' (G + ridge I)^{-1} phi``, from ``k(x, Z)``."""
        features = self.basis.features_(torch.tensor(cross)).numpy()
        noise = self.factor.half_solve(np.asfortranarray(features.T))
        found: np.ndarray = np.einsum("ij,ij->i", features, features)
        found -= self.ridge * np.einsum("ij,ij->j", noise, noise)
        return found

    def weights(self, cross: Float[np.ndarray, "k m"]) -> Float[np.ndarray, "k m"]:
        """Nothing: an ensemble's variance needs the prior between all rows."""
        raise SettingsError(
            "Standard deviations over an ensemble of networks (prior=...) need the prior's "
            "covariance of all pairs of rows, which the Nystrom solver is there to avoid; leave "
            "the prior out for those of the Bayesian posterior, or take solver='cholesky'."
        )


def solution_of(
    kernel: Kernel, basis: Basis, sums: Sums, ridge: float | int, start: float
) -> Solution:
    """Solve ``(G + ridge I) b = c``.

    Args:
        kernel: The kernel.
        basis: The basis.
        sums: Of all rows.
        ridge: The ridge.
        start: When the work began, by ``time.perf_counter()``.

    Returns:
        The function, with what is known of it.

    Raises:
        SingularKernelError: The equations are singular in float64.
        RangeError: The sums are not finite, or too large.

    Warns:
        ConditioningWarning: Predictions have fewer than 4 digits that are certain.
    """
    factor = _factor(basis, sums, float(ridge))
    moments = sums.moments.numpy()
    b = factor.solve(np.asfortranarray(moments))
    residual = moments - factor.multiply(np.asfortranarray(b))
    coefficients = basis.coefficients(torch.from_numpy(b)).numpy()
    dtype, size = basis.centres.dtype, len(basis)
    # Of the coefficients as they are, not of b: certificates are of the function that predicts.
    product = train_matrix(kernel, basis.centres, dtype) @ coefficients
    return Solution(
        basis.centres,
        coefficients,
        squared_norms(coefficients, product, diagonal_of(kernel, basis.centres), dtype),
        np.full(moments.shape[1], np.inf),
        factor.smallest_eigenvalue,
        factor.largest_eigenvalue,
        sums.rows,
        sums.largest.numpy(),
        Projected(basis, factor, float(ridge)),
        NystromReport(
            "nystrom", sums.rows, size, max(relative(residual, moments)), np.inf,
            time.perf_counter() - start, basis.left_out, basis.rounding,
        ),
    )  # fmt: skip


def _factor(basis: Basis, sums: Sums, ridge: float) -> Factor:
    """Of ``G + ridge I``, if it can be trusted."""
    gram = sums.whole_gram()
    if not float(gram.diagonal().max()) * len(basis) < LARGEST_SQUARED:
        raise RangeError(
            f"The kernel of {sums.rows} rows and {len(basis)} centres is not finite, or too large "
            "to be computed with. Scale the inputs down, or put a norm into the network."
        )
    factor = factorise(gram.numpy(), np.full(len(basis), ridge))
    if not isinstance(factor, Factor):
        raise SingularKernelError(_trouble(basis, sums, ridge, "singular"))
    smallest, largest = factor.smallest_eigenvalue, factor.largest_eigenvalue
    if smallest <= SINGULAR * _EPS * largest:
        raise SingularKernelError(_trouble(basis, sums, ridge, "singular"))
    if basis.rounding * largest > FEWEST_DIGITS * smallest:
        warnings.warn(
            _trouble(basis, sums, ridge, "close to singular"), ConditioningWarning, stacklevel=4
        )
    return factor


def _trouble(basis: Basis, sums: Sums, ridge: float, state: str) -> str:
    """What is wrong with the equations, and what helps."""
    values = torch.linalg.eigvalsh(sums.whole_gram()) + ridge
    largest = float(values[-1])
    certain = int((values > SINGULAR * basis.rounding * largest).sum())
    enough = basis.rounding * largest / FEWEST_DIGITS
    return (
        f"The equations of {sums.rows} rows and {len(basis)} centres are {state} in "
        f"{basis.centres.dtype}: their eigenvalues go from about {float(values[0]):.2g} to "
        f"{largest:.2g}, and with rounding errors of up to {basis.rounding:.0e} of the largest the "
        f"rows tell only {certain} of {len(basis)} directions apart (the effective rank). What "
        f"helps: a ridge of {enough:.0e} or more; fewer centres; or more rows that differ."
    )
