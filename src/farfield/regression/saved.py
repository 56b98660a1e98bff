"""Where an iteration was, in a file: a solve that was killed goes on to the same answer."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from farfield.errors import DataError
from farfield.files import atomic
from farfield.fingerprint import of_tensors
from farfield.regression.conjugate import Iterate
from farfield.regression.problem import Problem

_COLUMNS = ("solution", "residual", "direction")
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


def mark_of(problem: Problem, settings: str) -> str:
    """What tells whether a file belongs to a solve.

    Args:
        problem: What is solved.
        settings: How, in words.

    Returns:
        A digest of points, targets, ridge, and where the kernel comes from. (What it computes is
        compared when a solve goes on, by its residual.)
    """
    digest = of_tensors({"x": problem.x, "y": problem.y})
    origin = sorted(problem.kernel.origin.items())
    return f"{digest} {problem.ridge!r} {settings} {origin}"


def save_iterate(path: Path, state: Iterate, mark: str) -> None:
    """Write it, complete or not at all.

    Args:
        path: The file.
        state: Where the iteration is.
        mark: What it belongs to.

    Raises:
        OutputError: It cannot be written.
    """
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            mark=np.array(mark),
            number=np.array(state.number),
            product=state.product,
            **{name: getattr(state, name) for name in _COLUMNS},
        )


def load_iterate(path: Path, mark: str) -> Iterate | None:
    """Read it.

    Args:
        path: The file.
        mark: What it must belong to.

    Returns:
        Where the iteration was; nothing without a file.

    Raises:
        DataError: It cannot be read, or belongs to another solve.
    """
    if not path.exists():
        return None
    try:
        # NumPy itself leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            found = str(held["mark"])
            solution, residual, direction = (np.ascontiguousarray(held[key]) for key in _COLUMNS)
            state = Iterate(solution, residual, direction, held["product"], int(held["number"]))
    except _UNREADABLE as error:
        raise DataError(
            f"The checkpoint {path} cannot be read ({type(error).__name__}); delete it to solve "
            "from the start."
        ) from error
    if found != mark:
        raise DataError(another_solve(path))
    return state


def another_solve(path: Path) -> str:
    """What is said of a file of another solve."""
    return (
        f"The checkpoint {path} belongs to another kernel, other data or other settings; give "
        "another file, or delete it to solve from the start."
    )
