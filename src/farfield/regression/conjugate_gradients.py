"""Kernel regression by preconditioned conjugate gradients, for matrices of any size."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from farfield.errors import ConvergenceError, DataError, SettingsError
from farfield.files import make_folder
from farfield.regression.conditioning import not_finite, ways_out
from farfield.regression.conjugate import Apply, Iterate, Outcome, iterate
from farfield.regression.costs import CostModel, measured
from farfield.regression.exact import solution_of_all
from farfield.regression.matrices import diagonal_of, train_matrix
from farfield.regression.preconditioner import preconditioner
from farfield.regression.problem import Problem
from farfield.regression.products import FromStore, InMemory, Products, Recomputed, Stored
from farfield.regression.saved import another_solve, load_iterate, mark_of, save_iterate
from farfield.regression.solution import Solution, SolverReport, relative

_WAYS = ("auto", "memory", "store", "recompute")
_LARGEST_RANK = 2000
_LARGEST_FACTOR = 2**31  # bytes; not the free memory, which is another when a solve goes on
_LARGEST_SQUARED = 1e150  # eigenvalues are squared on the way
_RESUMED = 1e-4  # by which the residual of a checkpoint may differ, relative to the targets

Progress = Callable[[int, float], None]
"""Called after each iteration with its number and the largest relative residual."""


@dataclass(frozen=True)
class ConjugateReport(SolverReport):
    """What conjugate gradients did.

    Attributes:
        iterations: How many, those before a checkpoint included.
        residuals: The largest relative residual of an output after each iteration since the
            solve was started or resumed.
        rank: Of the preconditioner.
        products: How products were formed: ``"memory"``, ``"store"`` or ``"recompute"``.
        costs: What each way costs on this machine, as far as it was measured.
    """

    iterations: int
    residuals: tuple[float, ...]
    rank: int
    products: str
    costs: CostModel | None

    def __str__(self) -> str:
        return (
            f"{super().__str__()}, {self.iterations} iterations, preconditioner of rank "
            f"{self.rank:,}, products by {self.products}"
            + ("" if self.costs is None else f" (measured: {self.costs})")
        )


@dataclass(frozen=True)
class ConjugateGradients:
    r"""Settings of preconditioned conjugate gradients: any number of points, several targets.

    ``(K + ridge I) a = y`` is solved from products with K alone, which is held in memory, read
    from a store or computed anew, tile by tile, for each product. All outputs are solved at once:
    they share the products, and one that is done leaves. The preconditioner is ``L L' + ridge I``
    with a randomly pivoted partial Cholesky factor L of K; its columns are always computed.

    Args:
        tolerance: Largest ``|y - (K + ridge I) a| / |y|`` of an output, of the coefficients as
            they are in the end.
        max_iterations: Products after which it is given up.
        preconditioner_rank: Columns of L; 0 for none. By default a quarter of the points, at most
            2,000 and 2 GiB.
        products: ``"memory"``, ``"store"``, ``"recompute"``, or ``"auto"``: what takes least by a
            few timed tiles (:class:`farfield.regression.CostModel`).
        store: The kernel matrix of the training inputs: what :func:`farfield.scale.compute` made,
            or :func:`farfield.scale.open_kernel` opened. Duplicates among the inputs stay in it.
        checkpoint: A file where the iteration is kept, and from which it goes on if it exists.
        checkpoint_seconds: Time between two savings; the end is always saved.
        seed: Of the columns of L.
        progress: Called after each iteration with its number and the largest relative residual.

    Raises:
        SettingsError: Settings that mean nothing.

    Source: Hestenes and Stiefel (1952); Chen, Epperly, Tropp and Webber (2022) for L; Diaz,
    Epperly, Frangella, Tropp and Webber, "Robust, randomized preconditioning for kernel ridge
    regression" (2023) for both together.

    Example:
        >>> import torch, farfield as ff
        >>> limit = ff.infinite_width(ff.mlp(1, [8, 8], 1, norm="layer"), 2.0, 0.1)
        >>> x = torch.linspace(-3, 3, 50, dtype=torch.float64)[:, None]
        >>> solver = ff.ConjugateGradients(tolerance=1e-10)
        >>> fit = ff.KernelRegression(limit.ntk, ridge=1e-3, solver=solver).fit(x, torch.sin(x))
        >>> exact = ff.KernelRegression(limit.ntk, ridge=1e-3).fit(x, torch.sin(x))
        >>> difference = (fit.predict(x) - exact.predict(x)).abs()
        >>> bool((difference <= fit.error_bound(x) + exact.error_bound(x)).all())
        True
    """

    tolerance: float = 1e-8
    max_iterations: int = 1000
    preconditioner_rank: int | None = None
    products: str = "auto"
    store: Stored | None = None
    checkpoint: str | Path | None = None
    checkpoint_seconds: float | int = 60.0
    seed: int = 0
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if not 0.0 < self.tolerance < 1.0:
            raise SettingsError(
                f"tolerance is {self.tolerance}; it must lie between 0 and 1, such as 1e-8."
            )
        for name, value, least in (
            ("max_iterations", self.max_iterations, 1),
            ("preconditioner_rank", self.preconditioner_rank or 0, 0),
            ("checkpoint_seconds", self.checkpoint_seconds, 0),
        ):
            if not value >= least:
                raise SettingsError(f"{name} is {value}; it must be at least {least}.")
        if self.products not in _WAYS:
            raise SettingsError(f"products is {self.products!r}; choose one of {', '.join(_WAYS)}.")
        if self.products == "store" and self.store is None:
            raise SettingsError(
                'products="store" needs store=..., such as '
                'ff.scale.compute(kernel, x, store="kernel.zarr").'
            )
        if self.store is not None and not isinstance(self.store, Stored):
            raise SettingsError(
                f"store is of type {type(self.store).__name__}; give what ff.scale.compute "
                "returns, or ff.scale.open_kernel(folder)."
            )

    def solve(self, problem: Problem) -> Solution:
        """The coefficients, and what is known of them.

        Args:
            problem: What to solve.

        Returns:
            The solution; it cannot tell variances.

        Raises:
            ConvergenceError: The tolerance was not reached; the message says what was.
            SingularKernelError: The kernel matrix is not positive definite in its precision.
            RangeError: The kernel is not finite.
            SettingsError: The store belongs to other data or another kernel.
            DataError: A checkpoint or a store that cannot be read, or that belongs to another
                solve.
            OutputError: The checkpoint cannot be written.
        """
        begin = time.perf_counter()
        merged, ridges = problem.merged, problem.ridges
        path = None if self.checkpoint is None else Path(self.checkpoint)
        if path is not None:
            make_folder(path.parent)
        if self.store is not None:
            self.store.check_made_of(problem.kernel, problem.x)
        diagonal = diagonal_of(problem.kernel, merged.x)
        if not float(diagonal.max()) * len(diagonal) < _LARGEST_SQUARED:
            raise not_finite(len(diagonal), problem.dtype)
        way, costs, matrix = self._products(problem)
        rank = self._rank(len(merged.x))
        precondition = preconditioner(problem.kernel, merged.x, ridges, rank, self.seed)
        targets = merged.y.numpy()
        scales = _powers_of_two(targets)
        scaled = targets / scales

        def multiply(vectors: np.ndarray) -> np.ndarray:
            product: np.ndarray = matrix.multiply(vectors) + ridges[:, None] * vectors
            return product

        keeper = _Keeper(path, self._mark(problem), self.checkpoint_seconds, self.progress)
        state = keeper.begin(multiply, scaled)
        ended = iterate(
            multiply, scaled, precondition, self.tolerance, self.max_iterations, state, keeper.told
        )
        keeper.end(ended.iterate)
        if ended.residual > self.tolerance:
            raise ConvergenceError(_unfinished(ended, self, problem))
        coefficients, residual = ended.iterate.solution * scales, ended.iterate.residual * scales
        product = targets - residual - ridges[:, None] * coefficients
        points = len(targets)
        return solution_of_all(
            problem,
            coefficients,
            product,
            residual,
            diagonal,
            matrix.longest,
            # The trace of K is at least any of its eigenvalues.
            (float(ridges.min()), float(diagonal.sum() + ridges.max())),
            None,
            lambda relative, error: ConjugateReport(
                "cg",
                points,
                points,
                relative,
                error,
                time.perf_counter() - begin,
                ended.iterate.number,
                tuple(keeper.residuals),
                precondition.rank,
                way,
                costs,
            ),
        )

    def _products(self, problem: Problem) -> tuple[str, CostModel | None, Products]:
        """How K is multiplied: the way, why, and what does it."""
        x, way, costs = problem.merged.x, self.products, None
        if way == "auto":
            costs = measured(problem.kernel, x, self.store)
            way = costs.cheapest
        if way == "memory":
            return way, costs, InMemory(train_matrix(problem.kernel, x, problem.dtype))
        if way == "store" and self.store is not None:
            return way, costs, FromStore(self.store, problem.merged.first)
        return way, costs, Recomputed(problem.kernel, x)

    def _rank(self, points: int) -> int:
        """Of the preconditioner."""
        if self.preconditioner_rank is not None:
            return self.preconditioner_rank
        return min(points // 4, _LARGEST_RANK, _LARGEST_FACTOR // (8 * points))

    def _mark(self, problem: Problem) -> str:
        return mark_of(problem, f"rank {self.preconditioner_rank} seed {self.seed}")


class _Keeper:
    """Keeps the iteration in a file, and tells of it."""

    def __init__(
        self, path: Path | None, mark: str, seconds: float | int, progress: Progress | None
    ) -> None:
        self.path, self.mark, self.seconds, self.progress = path, mark, seconds, progress
        self.residuals: list[float] = []
        self._last = time.perf_counter()

    def begin(self, multiply: Apply, targets: np.ndarray) -> Iterate | None:
        """Where an earlier solve was, if it was one of the same system."""
        state = None if self.path is None else load_iterate(self.path, self.mark)
        if state is None or self.path is None:
            return None
        gap = targets - multiply(state.solution) - state.residual
        if not max(relative(gap, targets)) < _RESUMED:
            raise DataError(another_solve(self.path))
        return state

    def told(self, state: Iterate, residual: float) -> None:
        """After each iteration."""
        self.residuals.append(residual)
        if self.progress is not None:
            self.progress(state.number, residual)
        if self.path is not None and time.perf_counter() - self._last >= self.seconds:
            self.end(state)

    def end(self, state: Iterate) -> None:
        """Keep where the iteration is."""
        if self.path is not None:
            save_iterate(self.path, state, self.mark)
            self._last = time.perf_counter()


def _powers_of_two(
    targets: Float[np.ndarray, "m outputs"],
) -> Float[np.ndarray, " outputs"]:
    """The size of each column, so that no square of its entries is beyond all numbers."""
    largest = np.abs(targets).max(axis=0)
    powers: np.ndarray = np.exp2(np.floor(np.log2(np.where(largest > 0, largest, 1.0))))
    return powers


def _unfinished(ended: Outcome, settings: ConjugateGradients, problem: Problem) -> str:
    """Why there is no solution, and what to do."""
    best = f"a relative residual of {ended.residual:.2g}, and {settings.tolerance:g} was asked for"
    number = ended.iterate.number
    if ended.stagnated:
        # A tolerance that could have been met, in one digit.
        reach = 10.0 ** math.ceil(math.log10(min(2.0 * ended.residual, 1.0)))
        loose = f"Give tolerance={reach:.0e} if that is enough. " if reach < 1.0 else ""
        return (
            f"Conjugate gradients stopped after {number} iterations at {best}: rounding lets it "
            f"get no smaller. {loose}{ways_out(problem.dtype)}"
        )
    kept = "" if settings.checkpoint is None else " (the checkpoint goes on from here)"
    return (
        f"Conjugate gradients ended after {number} iterations at {best}. What helps: a larger "
        f"max_iterations{kept}; a larger preconditioner_rank; a larger ridge (it is "
        f"{problem.ridge:g})."
    )
