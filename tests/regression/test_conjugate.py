"""Conjugate gradients and their preconditioner against dense solvers."""

import numpy as np
import pytest
import torch

import farfield as ff
from farfield.errors import RangeError, SingularKernelError
from farfield.regression.conjugate import Iterate, iterate
from farfield.regression.pivots import pivoted
from farfield.regression.preconditioner import Preconditioner, preconditioner


def decaying(size: int, power: float, seed: int = 0) -> np.ndarray:
    """A matrix with eigenvalues k^-power."""
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.standard_normal((size, size)))[0]
    matrix: np.ndarray = (basis * np.arange(1.0, size + 1) ** -power) @ basis.T
    return 0.5 * (matrix + matrix.T)


def of_matrix(
    matrix: np.ndarray, dtype: torch.dtype = torch.float64
) -> tuple[ff.Kernel, torch.Tensor]:
    """A kernel of numbered points with this matrix, and the points."""
    values = torch.from_numpy(matrix).to(dtype)
    kernel = ff.Kernel(
        lambda a, b: values[a[:, 0].long()][:, b[:, 0].long()],
        lambda a: values.diagonal()[a[:, 0].long()],
    )
    return kernel, torch.arange(len(matrix), dtype=dtype)[:, None]


def factor_of(matrix: np.ndarray, rank: int, seed: int = 0) -> tuple[np.ndarray, float]:
    found = pivoted(*of_matrix(matrix), rank, seed)
    return found.factor, float(found.left.mean())


def plain(size: int) -> Preconditioner:
    return Preconditioner.of(np.empty((size, 0)), np.ones(size))


def test_the_factor_is_close_to_the_best_of_its_rank() -> None:
    matrix = decaying(300, 2.0)
    best = np.sort(np.linalg.eigvalsh(matrix))[:-40].sum()
    factor, left = factor_of(matrix, 40)
    rest = matrix - factor @ factor.T
    # In expectation at most 1 + epsilon times the best trace at a somewhat larger rank.
    assert best <= np.trace(rest) <= 4.0 * best
    assert np.linalg.eigvalsh(rest).min() > -1e-10
    # What the chosen points leave, a little of their diagonal, is counted as nothing.
    assert left == pytest.approx(np.trace(rest) / 300, rel=1e-3)


def test_a_matrix_of_low_rank_is_found_exactly() -> None:
    points = np.random.default_rng(0).standard_normal((50, 3))
    matrix = points @ points.T
    factor, left = factor_of(matrix, 20, 1)
    assert factor.shape[1] == 3
    np.testing.assert_allclose(factor @ factor.T, matrix, atol=1e-13 * np.abs(matrix).max())
    assert left < 1e-13


def test_rounding_of_float32_is_no_pivot() -> None:
    """Columns of rounding have no Cholesky factor; a matrix of rank 3 has 3 pivots, or few more."""
    points = np.random.default_rng(0).standard_normal((200, 3))
    matrix = points @ points.T
    found = pivoted(*of_matrix(matrix, torch.float32), 150, 0)
    assert 3 <= len(found.rows) <= 6
    rest = np.abs(found.factor @ found.factor.T - matrix).max()
    assert rest < 200 * np.finfo(np.float32).eps * matrix.max()
    assert np.isfinite(
        preconditioner(*of_matrix(matrix, torch.float32), np.full(200, 1e-3), 150, 0)(points)
    ).all()


@pytest.mark.parametrize("scale", [0.0, 1e-200, 1e-100, 1.0, 1e150])
def test_copies_of_one_point_and_sizes_of_any_kind(scale: float) -> None:
    matrix = np.full((30, 30), scale)
    for ridge in (0.0, scale):
        found = preconditioner(*of_matrix(matrix), np.full(30, ridge), 10, 0)
        assert np.isfinite(found(np.ones((30, 1)))).all()


def test_the_preconditioner_is_an_inverse() -> None:
    generator = np.random.default_rng(0)
    factor, shift = generator.standard_normal((30, 4)), generator.uniform(0.1, 2.0, 30)
    vectors = generator.standard_normal((30, 2))
    dense = factor @ factor.T + np.diag(shift)
    found = Preconditioner.of(factor, shift)(vectors)
    np.testing.assert_allclose(found, np.linalg.solve(dense, vectors), rtol=1e-9)
    alone = Preconditioner.of(np.empty((30, 0)), shift)
    np.testing.assert_allclose(alone(vectors), vectors / shift[:, None])


@pytest.mark.parametrize("rank", [0, 60])
@pytest.mark.parametrize("ridge", [1e-4, 0.0])
def test_solutions_are_those_of_a_dense_solver(rank: int, ridge: float) -> None:
    matrix, ridges = decaying(300, 1.5), np.full(300, ridge)
    right = np.random.default_rng(0).standard_normal((300, 3)) * [1.0, 1e-8, 0.0]
    precondition = preconditioner(*of_matrix(matrix), ridges, rank, 0)
    system = matrix + np.diag(ridges)
    widths = []

    def multiply(vectors: np.ndarray) -> np.ndarray:
        widths.append(vectors.shape[1])
        product: np.ndarray = system @ vectors
        return product

    ended = iterate(multiply, right, precondition, 1e-10, 2000)
    assert ended.residual <= 1e-10
    assert not ended.stagnated
    expected = np.linalg.solve(system, right)
    # |a - a*| <= |residual| / lambda_min; the dense solver's own error is far below it.
    gap = np.linalg.norm(ended.iterate.solution - expected, axis=0)
    smallest = np.linalg.eigvalsh(system)[0]
    assert (gap <= 1.1e-10 * np.linalg.norm(right, axis=0) / smallest).all()
    assert not ended.iterate.solution[:, 2].any()
    # The column of zeros is never multiplied before the end; the others leave one by one.
    assert max(widths[:-1]) == 2
    assert widths[-1] == 3
    true = np.linalg.norm(right - system @ ended.iterate.solution, axis=0)[:2]
    assert ended.residual == pytest.approx((true / np.linalg.norm(right, axis=0)[:2]).max())


def test_a_column_that_is_done_leaves() -> None:
    matrix = np.diag(np.linspace(1.0, 2.0, 50))
    right = np.ones((50, 2))
    right[1:, 0] = 0.0  # an eigenvector: one iteration
    widths = []

    def multiply(vectors: np.ndarray) -> np.ndarray:
        widths.append(vectors.shape[1])
        product: np.ndarray = matrix @ vectors
        return product

    ended = iterate(multiply, right, plain(50), 1e-10, 100)
    assert widths[0] == widths[-1] == 2
    assert set(widths[1:-1]) == {1}
    np.testing.assert_allclose(matrix @ ended.iterate.solution, right, atol=1e-9)


def test_the_preconditioner_saves_iterations() -> None:
    matrix, ridges = decaying(400, 2.0), np.full(400, 1e-5)
    system = matrix + np.diag(ridges)
    right = np.random.default_rng(0).standard_normal((400, 1))
    numbers = []
    for rank in (0, 100):
        precondition = preconditioner(*of_matrix(matrix), ridges, rank, 0)
        ended = iterate(lambda v: system @ v, right, precondition, 1e-8, 2000)
        numbers.append(ended.iterate.number)
    assert numbers[1] < 0.4 * numbers[0]


def test_an_iteration_goes_on_where_it_was() -> None:
    matrix = decaying(100, 1.0) + 1e-3 * np.eye(100)
    right = np.random.default_rng(0).standard_normal((100, 2))
    seen: list[Iterate] = []
    whole = iterate(
        lambda v: matrix @ v, right, plain(100), 1e-9, 500, told=lambda state, _: seen.append(state)
    ).iterate
    resumed = iterate(lambda v: matrix @ v, right, plain(100), 1e-9, 500, state=seen[9]).iterate
    assert resumed.number == whole.number
    assert (resumed.solution == whole.solution).all()


def test_the_end_is_told_honestly() -> None:
    matrix = decaying(100, 1.0) + 1e-3 * np.eye(100)
    right = np.ones((100, 1))
    ended = iterate(lambda v: matrix @ v, right, plain(100), 1e-9, 5)
    assert ended.iterate.number == 5
    true = np.linalg.norm(right - matrix @ ended.iterate.solution) / np.linalg.norm(right)
    assert ended.residual == pytest.approx(true)
    assert ended.residual > 1e-9
    assert not ended.stagnated
    lost = iterate(lambda v: matrix @ v, right, plain(100), 1e-17, 5000)
    assert lost.stagnated
    assert lost.iterate.number < 5000
    true = np.linalg.norm(right - matrix @ lost.iterate.solution) / np.linalg.norm(right)
    assert lost.residual == pytest.approx(true, rel=1e-6)
    with pytest.raises(SingularKernelError, match="curvature"):
        iterate(lambda v: -matrix @ v, right, plain(100), 1e-9, 5)
    with pytest.raises(RangeError, match="not finite"):
        iterate(lambda v: np.inf * v, right, plain(100), 1e-9, 5)
