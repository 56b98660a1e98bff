"""The solver works in the memory of its matrix, and says when it cannot be trusted."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from farfield.errors import ConditioningWarning, RangeError, SingularKernelError
from farfield.regression import solve
from farfield.regression.conditioning import factorise_safely
from farfield.regression.solve import Factor, closest_pair, factorise, largest_eigenvalue, matrix_of


def definite(n: int, rng: np.random.Generator, spread: float = 1e3) -> np.ndarray:
    """A random matrix whose eigenvalues go from 1 / spread to 1."""
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
    matrix = (basis * np.geomspace(1 / spread, 1, n)) @ basis.T
    return (matrix + matrix.T) / 2


@pytest.fixture(params=["whole", "panels"])
def panels(request, monkeypatch) -> None:
    if request.param == "panels":
        monkeypatch.setattr(solve, "_DIRECT", 0)
        monkeypatch.setattr(solve, "_PANEL", 13)


@pytest.mark.usefixtures("panels")
@pytest.mark.parametrize("n", [1, 2, 3, 26, 27, 64, 65, 200])
def test_everything_from_one_matrix(n, rng) -> None:
    matrix, ridge = definite(n, rng), rng.uniform(0.0, 0.1, n)
    whole = matrix + np.diag(ridge)
    buffer = matrix.copy()
    factor = factorise(buffer, ridge)
    assert isinstance(factor, Factor)
    assert np.shares_memory(factor.packed, buffer)
    b = np.asfortranarray(rng.standard_normal((n, 3)))
    # The condition number is at most 1e3: rounding costs 1e-13.
    np.testing.assert_allclose(factor.solve(b), np.linalg.solve(whole, b), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(factor.multiply(b), whole @ b, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(factor.multiply_kernel(b), matrix @ b, rtol=1e-12, atol=1e-12)
    half = factor.half_solve(b)
    np.testing.assert_allclose(half.T @ half, b.T @ np.linalg.solve(whole, b), rtol=1e-9, atol=1e-9)
    values = np.linalg.eigvalsh(whole)
    assert factor.smallest_eigenvalue == pytest.approx(values[0], rel=2e-2)
    assert factor.largest_eigenvalue == pytest.approx(values[-1], rel=2e-2)


def test_lanczos_ends_where_there_is_nothing_left() -> None:
    assert largest_eigenvalue(lambda b: 3.0 * b, 100) == pytest.approx(3.0, rel=1e-14)
    assert largest_eigenvalue(lambda b: 0.0 * b, 100) == 0.0


@pytest.mark.parametrize("direct", [0, 3000])
def test_no_second_matrix_is_needed(direct) -> None:
    # In a process of its own: the peak of this one is that of earlier tests.
    script = f"""
import resource, numpy as np
from farfield.regression import solve
from farfield.regression.solve import factorise
solve._DIRECT, solve._PANEL = {direct}, 128
n = 3000
matrix = np.eye(n) + 0.5
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
factor = factorise(matrix, np.zeros(n))
factor.solve(np.ones((n, 1), order="F")), factor.multiply(np.ones((n, 1), order="F"))
factor.smallest_eigenvalue, factor.largest_eigenvalue
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (8 * n * n / 1024))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert float(done.stdout) < 0.3  # 72 MB is one matrix; BLAS takes buffers of some MB


@pytest.mark.usefixtures("panels")
def test_what_is_not_definite_is_restored(rng) -> None:
    matrix = definite(60, rng)
    matrix[50, 50] = -1.0
    buffer = matrix.copy()
    assert factorise(buffer, np.zeros(60)) == 50
    assert np.array_equal(matrix_of(buffer.T, buffer.diagonal()), matrix)


def test_a_singular_matrix_is_refused_with_its_eigenvalue(rng) -> None:
    a = rng.standard_normal((30, 5))
    with pytest.raises(SingularKernelError, match=r"singular in torch.float64.*ridge"):
        factorise_safely(a @ a.T, np.zeros(30), torch.float64)
    big = rng.standard_normal((2100, 5))
    with pytest.raises(SingularKernelError, match=r"first \d+ rows have"):
        factorise_safely(big @ big.T, np.zeros(2100), torch.float64)
    factorise_safely(a @ a.T, np.full(30, 0.1), torch.float64)  # a ridge is one way out


def test_the_points_most_alike_are_named() -> None:
    matrix = np.eye(5) + 0.2
    matrix[3, 1] = matrix[1, 3] = 1.2 - 1e-12
    assert closest_pair(matrix.T, matrix.diagonal())[:2] == (1, 3)
    with pytest.warns(ConditioningWarning, match=r"points most alike are 1 and 3.*possible"):
        factorise_safely(matrix, np.zeros(5), torch.float64)


def test_the_kernels_precision_counts(rng) -> None:
    matrix = definite(20, rng, 1e5)
    factorise_safely(matrix.copy(), np.zeros(20), torch.float64)
    with pytest.warns(ConditioningWarning, match="compute the kernel in float64"):
        factorise_safely(matrix.copy(), np.zeros(20), torch.float32)
    with pytest.raises(SingularKernelError, match=r"torch\.float32"):
        factorise_safely(definite(20, rng, 1e7), np.zeros(20), torch.float32)


def test_what_is_not_finite_is_refused() -> None:
    for place in [(0, 0), (2, 3)]:
        matrix = np.eye(4)
        matrix[place] = matrix[place[::-1]] = np.inf
        with pytest.raises(RangeError, match="not finite"):
            factorise_safely(matrix, np.zeros(4), torch.float64)
