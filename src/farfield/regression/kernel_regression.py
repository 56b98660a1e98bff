"""Kernel regression: the converged network of infinite width, with or without a ridge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from farfield.errors import RangeError, SettingsError
from farfield.kernel import Kernel
from farfield.regression.choice import check_solver, choose
from farfield.regression.matrices import (
    check_inputs,
    check_points,
    cross_matrix,
    diagonal_of,
    tiles,
)
from farfield.regression.problem import Problem, Solver
from farfield.regression.solution import Posterior, Solution, SolverReport

_PRIOR_ROWS = 2048  # training points of which the prior's covariance is held at once


@dataclass(frozen=True)
class KernelRegression:
    r"""Kernel ridge regression, and without a ridge the interpolation of the targets.

    ``f(x) = k(x, X) (K + ridge I)^{-1} y``. With a neural tangent kernel and ridge 0 it is the mean
    of infinitely many networks of infinite width, each trained by gradient descent on squared
    errors until it has converged; with an NNGP kernel it is the mean of the Bayesian posterior
    with noise variance ``ridge``.

    Args:
        kernel: Any kernel.
        ridge: What is added to the diagonal of K; in the units of the kernel.
        prior: Covariance of the networks at initialisation, for standard deviations of an
            ensemble: the NNGP kernel, when ``kernel`` is the NTK of the same model.
        kernel_dtype: The dtype in which the kernel gets its inputs. All else is float64.
        solver: ``"cholesky"``, ``"cg"``, ``"nystrom"``, the settings of a solver, such as
            ``ff.ConjugateGradients(tolerance=1e-10)``, or ``"auto"``: Cholesky while the
            matrix fits in the memory that is free, else conjugate gradients.

    Raises:
        SettingsError: A ridge that is negative or not finite, or no such solver.

    Source: Jacot, Gabriel and Hongler (2018), section 5; Lee et al. (2019), equations 13 to 16.

    Example:
        >>> import torch, farfield as ff
        >>> limit = ff.infinite_width(ff.mlp(1, [8, 8], 1, norm="layer"), 2.0, 0.1)
        >>> x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
        >>> fit = ff.KernelRegression(limit.ntk).fit(x, x.square())
        >>> far = torch.tensor([[2.0], [1e3], [1e9]], dtype=torch.float64)
        >>> [round(value, 2) for value in fit.predict(far).flatten().tolist()]
        [4.0, 9.29, 9.3]
    """

    kernel: Kernel
    ridge: float | int = 0.0
    prior: Kernel | None = None
    kernel_dtype: torch.dtype = torch.float64
    solver: str | Solver = "auto"

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        check_ridge(self.ridge)
        check_solver(self.solver)

    def fit(
        self, x: Shaped[Tensor, "n *features"], y: Shaped[Tensor, "n_targets *outputs"]
    ) -> KernelFit:
        """Solve for the coefficients.

        Exact duplicates among the inputs are merged into one point with the mean of their
        targets, which changes nothing else: see
        :func:`farfield.regression.duplicates.merge_duplicates`.

        Args:
            x: Training inputs; computed with in float64.
            y: Targets, (n,) or (n, outputs).

        Returns:
            What predicts.

        Raises:
            SettingsError: Shapes that do not fit, or inputs that are not finite.
            DataError: Targets that are not finite.
            SingularKernelError: A kernel matrix that cannot be inverted in its precision.
            RangeError: A kernel that is not finite.

        Warns:
            DuplicateWarning: Equal inputs with different targets, and no ridge.
            ConditioningWarning: A kernel matrix that is close to singular.
        """
        check_inputs(x)
        targets = check_points(x, y)
        problem = Problem(self.kernel, x.detach().to(self.kernel_dtype), targets, float(self.ridge))
        if self.ridge == 0:
            problem.merged.warn()
        solver, chosen = choose(self.solver, problem)
        return KernelFit(self, solver.solve(problem), chosen, y.ndim == 1)


@dataclass(frozen=True, eq=False)
class KernelFit:
    """A fitted kernel regression; made by :meth:`KernelRegression.fit`.

    Attributes:
        settings: The regression.
        solution: What the solver found.
        chosen: Which solver that was, and why.
    """

    settings: KernelRegression
    solution: Solution
    chosen: str
    _flat: bool

    @property
    def support(self) -> Float[Tensor, "m *features"]:
        """The points that the function is made of: the distinct training points, or centres."""
        return self.solution.support

    @property
    def coefficients(self) -> Float[np.ndarray, "m outputs"]:
        """Those in ``f(x) = k(x, support) a``, one column for each output."""
        return self.solution.coefficients

    @property
    def report(self) -> SolverReport:
        """What the solver did."""
        return self.solution.report

    @property
    def smallest_eigenvalue(self) -> float:
        """Of the matrix that was inverted, K with the ridge; see :class:`Solution`."""
        return self.solution.smallest_eigenvalue

    @property
    def condition_number(self) -> float:
        """Largest over smallest eigenvalue of the matrix that was inverted."""
        smallest = self.solution.smallest_eigenvalue
        return self.solution.largest_eigenvalue / smallest if smallest else math.inf

    @overload
    def predict(
        self, x: Shaped[Tensor, "m *features"], return_std: Literal[False] = False
    ) -> Float[Tensor, "m *outputs"]: ...

    @overload
    def predict(
        self, x: Shaped[Tensor, "m *features"], return_std: Literal[True]
    ) -> tuple[Float[Tensor, "m *outputs"], Float[Tensor, " m"]]: ...

    @overload
    def predict(
        self, x: Shaped[Tensor, "m *features"], return_std: bool
    ) -> Float[Tensor, "m *outputs"] | tuple[Float[Tensor, "m *outputs"], Float[Tensor, " m"]]: ...

    def predict(
        self, x: Shaped[Tensor, "m *features"], return_std: bool = False
    ) -> Float[Tensor, "m *outputs"] | tuple[Float[Tensor, "m *outputs"], Float[Tensor, " m"]]:
        r"""Predictions at new inputs, in float64.

        The standard deviation is that of a function without observation noise, the same for
        every output. Without a prior it is that of the Bayesian posterior with the kernel as
        prior covariance, ``k(x, x) - k(x, X) G^{-1} k(X, x)`` with G = K + ridge I. With
        a prior covariance P (the NNGP) it is that over an ensemble of networks trained to
        convergence, each from its own initialisation: with ``A = k(x, X) G^{-1}``

        ``P(x, x) + A P(X, X) A' - 2 A P(X, x)``.

        Both are differences, so that variances below about 1e-15 of the prior's times the
        condition number are rounding; what rounding makes negative is 0.

        Args:
            x: New inputs.
            return_std: Whether to compute standard deviations too; those of an ensemble
                need the prior covariance of all training points, tile by tile.

        Returns:
            The predictions, (m,) or (m, outputs) as the targets; with ``return_std`` also the
            standard deviations, (m,).

        Raises:
            SettingsError: Inputs that do not fit the training inputs, or standard deviations
                that the solver cannot tell.
            RangeError: A prediction beyond the range of float64.

        Source: Rasmussen and Williams (2006), equation 2.26, for the posterior; Lee et al.,
        "Wide Neural Networks of Any Depth Evolve as Linear Models" (2019), equation 16.
        """
        means, variances = self._predicted(x, return_std)
        mean = means[:, 0] if self._flat else means
        return (mean, variances.clamp_min(0.0).sqrt()) if return_std else mean

    def predict_all(self, x: Shaped[Tensor, "m *features"]) -> Float[Tensor, "m outputs"]:
        """Predictions with a column for each output, also when there is only one."""
        return self._predicted(x, with_variances=False)[0]

    def error_bound(self, x: Shaped[Tensor, "m *features"]) -> Float[Tensor, "m outputs"]:
        r"""How far predictions are from those of the exact solution, at most.

        ``|f(x) - f*(x)| <= sqrt(k(x, x)) |f - f*|``, by the inequality of Cauchy and Schwarz;
        the norm is bounded by the residual of the coefficients, and what rounding can hide of it:
        see :func:`farfield.regression.solution.error_norms`. Without a ridge it rests on the
        computed smallest eigenvalue, and is infinite for solvers that have none.

        Args:
            x: Inputs.

        Returns:
            A column for each output.

        Raises:
            SettingsError: Inputs that do not fit the training inputs.
        """
        check_inputs(x, self.support)
        diagonal = diagonal_of(self.settings.kernel, x.detach().to(self.settings.kernel_dtype))
        bounds = np.sqrt(diagonal)[:, None] * self.solution.error_norms
        return torch.from_numpy(bounds).to(x.device)

    def _predicted(self, x: Tensor, with_variances: bool) -> tuple[Tensor, Tensor]:
        check_inputs(x, self.support)
        posterior = self._posterior() if with_variances else None
        new = x.detach().to(self.settings.kernel_dtype)
        kernel, train = self.settings.kernel, self.support
        means = np.empty((len(x), self.coefficients.shape[1]))
        variances = np.empty(len(x) if with_variances else 0)
        for rows in tiles(new, len(train)):
            cross = cross_matrix(kernel, new[rows], train)
            with np.errstate(over="ignore", invalid="ignore"):  # refused below, with the reason
                means[rows] = cross @ self.coefficients
                if posterior is not None:
                    variances[rows] = self._variances(posterior, new[rows], cross)
        check_finite(means, variances)
        return torch.from_numpy(means).to(x.device), torch.from_numpy(variances).to(x.device)

    def _posterior(self) -> Posterior:
        if self.solution.posterior is None:
            raise SettingsError(
                f"The solver {self.report.solver!r} has no standard deviations; fit with "
                'KernelRegression(..., solver="cholesky"), to fewer points if its matrix does '
                "not fit in memory."
            )
        return self.solution.posterior

    def _variances(self, posterior: Posterior, new: Tensor, cross: np.ndarray) -> np.ndarray:
        """Of a tile of new inputs, whose kernel with the support is ``cross``."""
        prior = self.settings.prior
        if prior is None:
            left: np.ndarray = diagonal_of(self.settings.kernel, new) - posterior.explained(cross)
            return left
        weights = posterior.weights(cross)
        result = diagonal_of(prior, new)
        train = self.support
        for start in range(0, len(train), _PRIOR_ROWS):
            columns = slice(start, start + _PRIOR_ROWS)
            spread = weights @ cross_matrix(prior, train, train[columns])
            spread -= 2.0 * cross_matrix(prior, new, train[columns])
            result += np.einsum("ij,ij->i", spread, weights[:, columns])
        return result


def check_ridge(ridge: float | int) -> None:
    """Refuse a ridge that means nothing.

    Raises:
        SettingsError: It is negative or not finite.
    """
    if not 0.0 <= ridge < math.inf:
        raise SettingsError(f"ridge is {ridge}; it must be finite and at least 0.")


def check_finite(*results: np.ndarray) -> None:
    """Refuse predictions that are not numbers.

    Raises:
        RangeError: One is infinite or NaN.
    """
    bad = sum(int((~np.isfinite(values)).sum()) for values in results)
    if bad:
        raise RangeError(
            f"{bad} of the {sum(values.size for values in results)} predicted values are beyond "
            "the range of the kernel's dtype. Ask for inputs less far away, or compute the kernel "
            "in float64 (kernel_dtype=torch.float64)."
        )
