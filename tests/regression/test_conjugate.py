"""Conjugate gradients and their preconditioner against dense solvers."""

from dataclasses import dataclass

import numpy as np
import pytest

from farfield.errors import SingularKernelError
from farfield.regression import conjugate
from farfield.regression.preconditioner import Preconditioner, pivoted_cholesky


@dataclass(frozen=True)
class Dense:
    matrix: np.ndarray

    def multiply(self, vectors: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.matrix @ vectors
        return result

    def columns(self, chosen: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.matrix[:, chosen]
        return result

    def diagonal(self) -> np.ndarray:
        return self.matrix.diagonal().copy()


def _decaying(size: int, power: float, seed: int = 0) -> np.ndarray:
    """A matrix with eigenvalues k^-power."""
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.standard_normal((size, size)))[0]
    matrix: np.ndarray = (basis * np.arange(1.0, size + 1) ** -power) @ basis.T
    return 0.5 * (matrix + matrix.T)


def test_the_factor_is_close_to_the_best_of_its_rank() -> None:
    matrix = _decaying(300, 2.0)
    best = np.sort(np.linalg.eigvalsh(matrix))[:-40].sum()
    factor = pivoted_cholesky(Dense(matrix), 40, seed=0)
    rest = matrix - factor @ factor.T
    # In expectation at most 1 + epsilon times the best trace at a somewhat larger rank.
    assert best <= np.trace(rest) <= 4.0 * best
    assert np.linalg.eigvalsh(rest).min() > -1e-10


def test_a_matrix_of_low_rank_is_found_exactly() -> None:
    points = np.random.default_rng(0).standard_normal((50, 3))
    matrix = points @ points.T
    factor = pivoted_cholesky(Dense(matrix), 20, seed=1)
    assert factor.shape[1] <= 20
    np.testing.assert_allclose(factor @ factor.T, matrix, atol=1e-7 * np.abs(matrix).max())


def test_the_preconditioner_is_an_inverse() -> None:
    generator = np.random.default_rng(0)
    factor, ridge = generator.standard_normal((30, 4)), generator.uniform(0.1, 2.0, 30)
    vectors = generator.standard_normal((30, 2))
    dense = factor @ factor.T + np.diag(ridge)
    found = Preconditioner.of(factor, ridge)(vectors)
    np.testing.assert_allclose(found, np.linalg.solve(dense, vectors), rtol=1e-9)
    plain = Preconditioner.of(np.empty((30, 0)), ridge)
    np.testing.assert_allclose(plain(vectors), vectors / ridge[:, None])


@pytest.mark.parametrize("rank", [0, 60])
def test_solutions_are_those_of_a_dense_solver(rank: int) -> None:
    matrix, ridge = _decaying(300, 1.5), np.full(300, 1e-4)
    right = np.random.default_rng(0).standard_normal((300, 3)) * [1.0, 1e-8, 0.0]
    precondition = Preconditioner.of(pivoted_cholesky(Dense(matrix), rank, 0), ridge)
    system = matrix + np.diag(ridge)
    state, error = conjugate.solve(lambda v: system @ v, right, precondition, 1e-10, 1000)
    assert error <= 1e-10
    expected = np.linalg.solve(system, right)
    # |a - a*| <= |residual| / lambda_min.
    gap = np.linalg.norm(state.solution - expected, axis=0)
    assert (gap <= 1.1e-10 * np.linalg.norm(right, axis=0) / 1e-4 + 1e-12).all()
    assert not state.solution[:, 2].any()


def test_the_preconditioner_saves_iterations() -> None:
    matrix, ridge = _decaying(400, 2.0), np.full(400, 1e-5)
    system = matrix + np.diag(ridge)
    right = np.random.default_rng(0).standard_normal((400, 1))
    numbers = []
    for rank in (0, 100):
        precondition = Preconditioner.of(pivoted_cholesky(Dense(matrix), rank, 0), ridge)
        state, _ = conjugate.solve(lambda v: system @ v, right, precondition, 1e-8, 2000)
        numbers.append(state.number)
    assert numbers[1] < 0.4 * numbers[0]


def test_an_iteration_goes_on_where_it_was() -> None:
    matrix = _decaying(100, 1.0) + 1e-3 * np.eye(100)
    right = np.random.default_rng(0).standard_normal((100, 2))
    plain = Preconditioner.of(np.empty((100, 0)), np.ones(100))
    whole, _ = conjugate.solve(lambda v: matrix @ v, right, plain, 1e-9, 500)
    seen: list[conjugate.Iterate] = []
    conjugate.solve(
        lambda v: matrix @ v, right, plain, 1e-9, 500, told=lambda state, _: seen.append(state)
    )
    resumed, _ = conjugate.solve(lambda v: matrix @ v, right, plain, 1e-9, 500, state=seen[9])
    assert resumed.number == whole.number
    assert (resumed.solution == whole.solution).all()


def test_the_end_is_told_honestly() -> None:
    matrix = _decaying(100, 1.0) + 1e-3 * np.eye(100)
    right = np.ones((100, 1))
    plain = Preconditioner.of(np.empty((100, 0)), np.ones(100))
    state, error = conjugate.solve(lambda v: matrix @ v, right, plain, 1e-9, 5)
    assert state.number == 5
    true = np.linalg.norm(right - matrix @ state.solution) / np.linalg.norm(right)
    assert error == pytest.approx(true)
    assert error > 1e-9
    with pytest.raises(SingularKernelError, match="curvature"):
        conjugate.solve(lambda v: -matrix @ v, right, plain, 1e-9, 5)
