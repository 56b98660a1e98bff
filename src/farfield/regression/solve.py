"""A symmetric positive definite system, solved in the memory of its own matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import blas, eigh, lapack

_DENSE = 64  # up to this size all eigenvalues are computed
_LONGEST_SEARCH = 40  # steps of Lanczos
_SETTLED = 1e-3  # relative change of an eigenvalue at which Lanczos ends
_PANEL = 512  # rows that are worked on together
_DIRECT = 8192  # rows up to which LAPACK gets the whole matrix
_BLOCK = 1024  # rows that are looked at together

Matrix = Float[np.ndarray, "n n"]
Columns = Float[np.ndarray, "n m"]


@dataclass(frozen=True, eq=False)
class Factor:
    """The Cholesky factor of ``G = K + diag(ridge)``, in the memory where K was.

    The factor is written into one triangle and leaves the other as it was. So K itself is still
    there, but for its diagonal, which is kept apart: products with K need no second matrix.

    Attributes:
        packed: In Fortran's order. Below and on the diagonal the factor L with ``L L' = G``,
            above it K.
        diagonal: Of G.
        ridge: What was added to the diagonal of K.
    """

    packed: Matrix
    diagonal: Float[np.ndarray, " n"]
    ridge: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.diagonal)

    def solve(self, b: Columns) -> Columns:
        """``G^{-1} b``."""
        x = torch.from_numpy(self.half_solve(b))
        upper = torch.from_numpy(self.packed.T)
        for rows in reversed(_panels(len(self))):
            right = x[rows] - upper[rows, rows.stop :] @ x[rows.stop :]
            x[rows] = torch.linalg.solve_triangular(upper[rows, rows], right, upper=True)
        result: Columns = x.numpy()
        return result

    def half_solve(self, b: Columns) -> Columns:
        """``L^{-1} b``, whose columns have the squared norms ``b' G^{-1} b``."""
        x = torch.tensor(b)
        upper = torch.from_numpy(self.packed.T)
        for rows in _panels(len(self)):
            corner = upper[rows, rows].mT
            x[rows] = torch.linalg.solve_triangular(corner, x[rows], upper=False)
            x[rows.stop :].addmm_(upper[rows, rows.stop :].mT, x[rows], alpha=-1.0)
        result: Columns = x.numpy()
        return result

    def multiply(self, b: Columns) -> Columns:
        """``G b``."""
        right = torch.tensor(b)
        below = torch.from_numpy(self.packed.T)
        x = torch.from_numpy(self.diagonal)[:, None] * right
        for rows in _panels(len(self)):
            left, corner = below[rows, : rows.start], below[rows, rows].tril(-1)
            x[rows] += left @ right[: rows.start] + corner @ right[rows] + corner.mT @ right[rows]
            x[: rows.start].addmm_(left.mT, right[rows])
        result: Columns = x.numpy()
        return result

    def multiply_kernel(self, b: Columns) -> Columns:
        """``K b``, without the ridge."""
        product: Columns = self.multiply(b) - self.ridge[:, None] * b
        return product

    def explained(self, cross: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " k"]:
        """``c' G^{-1} c`` of each row c."""
        half = self.half_solve(np.asfortranarray(cross.T))
        squares: np.ndarray = np.einsum("ij,ij->j", half, half)
        return squares

    def weights(self, cross: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "k n"]:
        """``G^{-1} c`` of each row c."""
        return self.solve(np.asfortranarray(cross.T)).T

    @cached_property
    def smallest_eigenvalue(self) -> float:
        """Of G: by inverse iteration in a Krylov space; from above, to about 1 %."""
        if len(self) <= _DENSE:
            return float(eigh(matrix_of(self.packed, self.diagonal), eigvals_only=True)[0])
        return 1.0 / largest_eigenvalue(self.solve, len(self))

    @cached_property
    def largest_eigenvalue(self) -> float:
        """Of G: from below, to about 1 %."""
        return largest_eigenvalue(self.multiply, len(self))


def factorise(matrix: Matrix, ridge: Float[np.ndarray, " n"]) -> Factor | int:
    """Factorise ``matrix + diag(ridge)`` in place.

    Beyond 8,192 rows LAPACK and BLAS work on panels of rows, and no second matrix is needed either:
    on 36,119 rows and two threads OpenBLAS' own dpotrf crashed.

    Args:
        matrix: Symmetric, its rows in one piece (C's order); overwritten.
        ridge: What to add to the diagonal.

    Returns:
        The factor; or, when the matrix is not positive definite in float64, the number of
        leading rows that are, and :func:`matrix_of` restores what the matrix was.

    Source: Golub and Van Loan, "Matrix Computations", section 4.2.9 (block Cholesky).
    """
    size = len(matrix)
    matrix.ravel()[:: size + 1] += ridge
    diagonal = matrix.diagonal().copy()
    if size <= _DIRECT:
        # A symmetric matrix in C's order is itself in Fortran's order: LAPACK need not copy it.
        found = lapack.dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)[1]
        if found:
            matrix.ravel()[:: size + 1] = diagonal
            return int(found) - 1
        return Factor(matrix.T, diagonal, ridge)
    product = np.empty((_PANEL, size))
    for rows in _panels(size, 0, 2 * _PANEL):
        corner = matrix[rows, rows]
        root, found = lapack.dpotrf(corner.T.copy(order="F"), lower=1, overwrite_a=1)
        if found:
            matrix.ravel()[:: size + 1] = diagonal
            return int(rows.start + found) - 1
        corner[:] = np.tril(corner, -1) + root.T  # below the diagonal K stays
        right = matrix[rows, rows.stop :]
        # right' <- right' root'^-1, whose columns are in one piece.
        done = blas.dtrsm(1.0, root, right.T.copy(order="F"), side=1, lower=1, trans_a=1,
                          overwrite_b=1).T  # fmt: skip
        right[:] = done
        for later in _panels(size, rows.stop):
            inner = slice(later.start - rows.stop, later.stop - rows.stop)
            height, width = later.stop - later.start, size - later.start
            change = product.ravel()[: height * width].reshape(height, width)
            np.matmul(done[:, inner].T, done[:, inner.start :], out=change)
            matrix[later, later.stop :] -= change[:, height:]
            matrix[later, later] -= np.triu(change[:, :height])
    return Factor(matrix.T, diagonal, ridge)


def _panels(size: int, start: int = 0, panel: int = 0) -> list[slice]:
    panel = panel or _PANEL
    return [slice(k, min(k + panel, size)) for k in range(start, size, panel)]


def matrix_of(packed: Matrix, diagonal: Float[np.ndarray, " n"]) -> Matrix:
    """A copy of the matrix whose upper triangle is in ``packed``."""
    matrix = np.triu(packed, 1)
    matrix += matrix.T
    matrix.ravel()[:: len(matrix) + 1] = diagonal
    return matrix


def largest_eigenvalue(apply: Callable[[Columns], Columns], size: int) -> float:
    """The largest eigenvalue of a positive semi-definite map, by Lanczos' method.

    Args:
        apply: The map, on (n, 1).
        size: n.

    Returns:
        A value that is at most the eigenvalue, but for rounding, and close to it.

    Source: Lanczos (1950); Golub and Van Loan, "Matrix Computations", section 10.1.
    """
    start = np.random.default_rng(0).standard_normal(size)
    basis = [start / np.linalg.norm(start)]
    heads: list[float] = []
    links: list[float] = []
    value = 0.0
    for _ in range(min(size, _LONGEST_SEARCH)):
        image = apply(basis[-1][:, None])[:, 0]
        heads.append(float(basis[-1] @ image))
        space = np.stack(basis)
        for _ in range(2):  # once more, because rounding leaves a little of the old directions
            image = image - space.T @ (space @ image)
        before, value = value, _largest_of_tridiagonal(heads, links)
        length = float(np.linalg.norm(image))
        if abs(value - before) <= _SETTLED * abs(value) or length <= 1e-12 * abs(value):
            break
        links.append(length)
        basis.append(image / length)
    return value


def _largest_of_tridiagonal(heads: list[float], links: list[float]) -> float:
    small = np.diag(heads) + np.diag(links, 1) + np.diag(links, -1)
    return float(np.linalg.eigvalsh(small)[-1])


def closest_pair(packed: Matrix, diagonal: Float[np.ndarray, " n"]) -> tuple[int, int, float]:
    """The two points that a kernel takes to be most alike.

    Args:
        packed: K above its diagonal.
        diagonal: Of K.

    Returns:
        Both rows, and ``1 - k(x, x') / sqrt(k(x, x) k(x', x'))``.
    """
    scale = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    best = (0, 0, np.inf)
    for start in range(0, len(packed), _BLOCK):
        stop = min(start + _BLOCK, len(packed))
        # Rows in this order are in one piece.
        cosines = packed[:, start:stop].T * scale * scale[start:stop, None]
        above = np.arange(len(packed)) < np.arange(start, stop)[:, None]
        gaps = np.where(above, np.maximum(1.0 - cosines, 0.0), np.inf)
        row, column = np.unravel_index(np.argmin(gaps), gaps.shape)
        if gaps[row, column] < best[2]:
            best = (int(column), int(row) + start, float(gaps[row, column]))
    return best


def is_finite(packed: Matrix) -> bool:
    """Whether all numbers of K above its diagonal are finite."""
    starts = range(0, len(packed), _BLOCK)
    blocks = (
        np.triu(packed[: start + _BLOCK, start : start + _BLOCK], 1 - start) for start in starts
    )
    return all(bool(np.isfinite(block).all()) for block in blocks)
