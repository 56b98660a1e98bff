"""Which solver a kernel regression gets."""

from __future__ import annotations

from collections.abc import Mapping

from farfield.errors import SettingsError
from farfield.machine import free_memory
from farfield.regression.cholesky import Cholesky, bytes_needed
from farfield.regression.conjugate_gradients import ConjugateGradients
from farfield.regression.nystrom import Nystrom
from farfield.regression.problem import Problem, Solver

NAMED: Mapping[str, Solver] = {
    "cholesky": Cholesky(),
    "cg": ConjugateGradients(),
    "nystrom": Nystrom(),
}
"""Solvers with their default settings."""

_GIGABYTE = 10**9


def check_solver(solver: object) -> None:
    """Refuse what is no solver.

    Raises:
        SettingsError: It is neither one of the names nor the settings of a solver.
    """
    if isinstance(solver, str) and (solver == "auto" or solver in NAMED):
        return
    if isinstance(solver, str | type) or not isinstance(solver, Solver):
        names = ", ".join(repr(name) for name in ("auto", *NAMED))
        raise SettingsError(
            f"solver is {solver!r}; give {names}, or a solver's settings such as "
            "ff.ConjugateGradients(tolerance=1e-8)."
        )


def choose(solver: str | Solver, problem: Problem) -> tuple[Solver, str]:
    """The solver that a setting means for a problem, and why.

    ``"auto"`` factorises while the matrix fits in the memory that is free.

    Args:
        solver: A name or the settings of a solver.
        problem: What is to be solved.

    Returns:
        The solver, and in words which one it is and why.
    """
    if not isinstance(solver, str):
        return solver, f"{type(solver).__name__}, as asked for"
    if solver != "auto":
        return NAMED[solver], f"{solver}, as asked for"
    points, free = len(problem.merged.x), free_memory()
    name = "cholesky" if bytes_needed(points) <= free else "cg"
    return NAMED[name], (
        f"{name}: the matrix of {points:,} points takes {8 * points**2 / _GIGABYTE:,.2g} GB, and "
        f"{free / _GIGABYTE:,.2g} GB of memory are free"
    )
