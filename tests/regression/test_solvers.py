"""Kernel regression by each solver: the same function, and honest about how far from exact."""

import math
from collections.abc import Callable
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from cases import batch, limit
from torch import Tensor

import farfield as ff
from farfield.errors import (
    ConvergenceError,
    DataError,
    DuplicateWarning,
    RangeError,
    SettingsError,
    SingularKernelError,
)
from farfield.regression import Problem, choice, conjugate_gradients, costs
from farfield.regression.costs import CostModel, measured
from farfield.regression.products import Recomputed
from farfield.regression.solution import error_norms, rounded_up, squared_norms

GAUSSIAN = ff.Kernel(
    lambda a, b: torch.exp(-0.5 * torch.cdist(a, b).square()), lambda a: torch.ones_like(a[:, 0])
)
WIDER = ff.Kernel(
    lambda a, b: torch.exp(-0.4 * torch.cdist(a, b).square()), lambda a: torch.ones_like(a[:, 0])
)


def data(points: int = 90) -> tuple[Tensor, Tensor]:
    """Points of which three are duplicates, and targets of which one is 0."""
    x = batch(points, 3)
    x[7], x[8], x[50] = x[3], x[3], x[40]
    y = torch.stack([x.sin().sum(1), 0.0 * x[:, 0], 1e6 * x[:, 0] * x[:, 1]], 1)
    return x, y


def dense(x: Tensor, y: Tensor, new: Tensor, ridge: float) -> np.ndarray:
    matrix = GAUSSIAN(x).numpy() + ridge * np.eye(len(x))
    return GAUSSIAN(new, x).numpy() @ np.linalg.solve(matrix, y.numpy())


@pytest.mark.parametrize("products", ["memory", "recompute", "auto"])
@pytest.mark.parametrize("rank", [0, None])
def test_predictions_are_those_of_a_dense_solver(
    products: str, rank: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several tiles, also where there are few points.
    monkeypatch.setattr(Recomputed, "__init__", _in_tiles_of_48)
    x, y = data()
    new = 2.0 * batch(20, 3, seed=1)
    for ridge in (0.1,) if products == "recompute" else (0.1, 1e-4):
        solver = ff.ConjugateGradients(products=products, preconditioner_rank=rank)
        fit = ff.KernelRegression(GAUSSIAN, ridge, solver=solver).fit(x, y)
        off = np.abs(fit.predict(new).numpy() - dense(x, y, new, ridge))
        bound = fit.error_bound(new).numpy()
        # The dense solver has rounding errors of its own, of the condition number's size.
        assert (off <= bound + 90 / ridge * 1e-16 * np.array([1.0, 0.0, 1e6])).all()
        assert bound[0, 0] < 1e-4
        assert bound[0, 1] == 0.0
        report = fit.report
        assert 0.0 < report.residual <= 1e-8
        assert len(report.residuals) == report.iterations > 3
        assert report.rank == (0 if rank == 0 else 21)  # a quarter of 87
        assert report.products == products or products == "auto"
        assert (report.costs is None) == (products != "auto")
        assert "iterations" in str(report)


def _in_tiles_of_48(self: Recomputed, kernel: ff.Kernel, x: Tensor) -> None:
    for name, value in (("kernel", kernel), ("x", x), ("side", 48)):
        object.__setattr__(self, name, value)


def test_products_tile_by_tile() -> None:
    x, vectors = batch(30, 3), np.random.default_rng(0).standard_normal((30, 2))
    for side in (4, 30, 50):
        found = Recomputed(GAUSSIAN, x, side).multiply(vectors)
        np.testing.assert_allclose(found, GAUSSIAN(x).numpy() @ vectors, rtol=1e-12, atol=1e-13)


def test_from_a_store(tmp_path: Path) -> None:
    x, y = data()
    stored = ff.scale.compute(GAUSSIAN, x, store=tmp_path / "k", tile=32)
    solver = ff.ConjugateGradients(store=stored, products="store")
    fit = ff.KernelRegression(GAUSSIAN, 1e-2, solver=solver).fit(x, y)
    assert fit.report.products == "store"
    assert (fit.predict(x) - torch.from_numpy(dense(x, y, x, 1e-2))).abs()[:, 0].max() < 1e-7
    refused = [
        (GAUSSIAN, x + 1, "x1.sha256"),
        (WIDER, x, "other values for the same inputs"),
        (limit(3).ntk, x, "of another job: "),
    ]
    for kernel, inputs, message in refused:
        with pytest.raises(SettingsError, match=message):
            ff.KernelRegression(kernel, 1e-2, solver=solver).fit(inputs, y)
    with pytest.raises(SettingsError, match="dtype"):
        ff.KernelRegression(GAUSSIAN, 1e-2, None, torch.float32, solver).fit(x, y)
    (tmp_path / "k" / "c" / "0" / "1").unlink()
    with pytest.raises(DataError, match="not finished"):
        ff.KernelRegression(GAUSSIAN, 1e-2, solver=solver).fit(x, y)


@pytest.mark.parametrize("size", [1e-290, 1e290])
def test_targets_of_any_size(size: float) -> None:
    x, y = data()
    for solver in ("cg", "cholesky"):
        regression = ff.KernelRegression(GAUSSIAN, 0.1, solver=solver)
        plain, other = (regression.fit(x, factor * y[:, :2]) for factor in (1.0, size))
        torch.testing.assert_close(other.predict(x) / size, plain.predict(x), rtol=1e-7, atol=1e-7)
        assert other.report.residual <= 1e-8
        assert (other.solution.squared_norms[0] == math.inf) == (size > 1.0)


def test_without_a_ridge() -> None:
    x, y = data(60)
    solver = ff.ConjugateGradients(tolerance=1e-9)
    with pytest.warns(DuplicateWarning):
        fit = ff.KernelRegression(GAUSSIAN, solver=solver).fit(x, y + batch(60, 3))
    kept = [k for k in range(60) if k not in (3, 7, 8, 40, 50)]
    torch.testing.assert_close(fit.predict(x)[kept], (y + batch(60, 3))[kept], rtol=1e-7, atol=1e-3)
    assert fit.error_bound(x).isinf().all()
    assert fit.condition_number == math.inf
    forms = ff.certify(fit).forms
    assert forms is not None
    assert forms.root.isinf().all()
    assert forms.norm.isfinite().all()
    # A kernel matrix of rank 3, and targets that no function of its space meets.
    linear = ff.Kernel(lambda a, b: a @ b.T, lambda a: a.square().sum(-1))
    with pytest.raises((SingularKernelError, ConvergenceError), match=r"What helps|larger ridge"):
        ff.KernelRegression(linear, solver="cg").fit(batch(40, 3), batch(40, 1, seed=1))


def _exactly(matrix: np.ndarray, ridges: np.ndarray, y: np.ndarray, a: np.ndarray) -> list[float]:
    """Norms of f and of f - f*, with 50 digits."""
    with mpmath.workdps(50):
        k, r = mpmath.matrix(matrix.tolist()), mpmath.diag(ridges.tolist())
        found = mpmath.matrix(a.tolist())
        away = found - mpmath.lu_solve(k + r, mpmath.matrix(y.tolist()))
        return [float(mpmath.sqrt((v.T * k * v)[0])) for v in (found, away)]


@pytest.mark.parametrize("noise", [0.0, 1e-3])
@pytest.mark.parametrize("ridge", [1.0, 1e-9])
def test_norms_are_bounds(noise: float, ridge: float, rng: np.random.Generator) -> None:
    points = rng.standard_normal((6, 2))
    matrix = np.exp(-0.5 * np.square(points[:, None] - points).sum(-1))
    ridges, y = ridge / np.array([1, 2, 1, 5, 1, 1]), rng.standard_normal(6)
    system = matrix + np.diag(ridges)
    a = np.linalg.solve(system, y) + noise * rng.standard_normal(6)
    size, error = _exactly(matrix, ridges, y, a)
    product = matrix @ a[:, None]
    residual = y[:, None] - system @ a[:, None]
    one = torch.float64
    sizes = rounded_up(residual, a[:, None], np.ones(6), one, 6)
    found = float(error_norms(sizes, ridges)[0])
    assert error <= found
    computed = float(error_norms(sizes, ridges, np.linalg.eigvalsh(system)[0])[0])
    assert error <= computed * (1 + 1e-6) <= found * (1 + 1e-6)
    squared = float(squared_norms(a[:, None], product, np.ones(6), one)[0])
    assert size**2 <= squared <= size**2 * (1 + 1e-9) + 1e-9


def test_the_bound_of_the_error_is_attained() -> None:
    # On an eigenvector whose eigenvalue is the ridge: e' K e = r^2 c / (2 c)^2.
    matrix, ridges, y = 0.25 * np.eye(3), np.full(3, 0.25), np.array([1.0, 0.0, 0.0])
    a = np.zeros(3)
    assert _exactly(matrix, ridges, y, a)[1] == pytest.approx(1.0, rel=1e-15)
    assert error_norms(y[:, None], ridges) == pytest.approx([1.0], rel=1e-15)
    assert error_norms(0.0 * y[:, None], 0.0 * ridges) == [0.0]
    assert error_norms(y[:, None], 0.0 * ridges) == [math.inf]
    assert error_norms(y[:, None], 0.0 * ridges, 4.0) == [0.5]


def test_rounding_of_residuals_is_bounded(rng: np.random.Generator) -> None:
    # Entries of 1e8 whose products cancel: what is left is rounding.
    half = rng.standard_normal((40, 3))
    matrix = half @ half.T
    a = 1e8 * rng.standard_normal((40, 1))
    a -= half @ np.linalg.lstsq(half, a, rcond=None)[0]
    with mpmath.workdps(60):
        exact = -mpmath.matrix(matrix.tolist()) * mpmath.matrix(a.tolist())
    true = np.array([[float(abs(value))] for value in exact])
    upper = rounded_up(-(matrix @ a), a, matrix.diagonal(), torch.float64, 40)
    assert (true <= upper).all()
    assert upper.max() < 1e-3  # 1e8 times the rounding of some 50 sums


def test_bounds_hold_for_the_function_that_is_computed() -> None:
    kernel, x, y = limit(3).ntk, batch(40, 3), batch(40, 2, seed=1)
    rough = ff.ConjugateGradients(tolerance=0.2, products="memory")
    fit = ff.KernelRegression(kernel, 1e-2, solver=rough).fit(x, y)
    assert fit.report.residual > 1e-3  # far from the exact solution
    cert = ff.certify(fit)
    a, matrix = fit.coefficients, kernel(x).numpy()
    assert cert.bounded
    assert cert.points == 40
    assert cert.smallest_eigenvalue == 1e-2 <= np.linalg.eigvalsh(matrix + 1e-2 * np.eye(40))[0]
    norms = np.sqrt(cert.kernel_bound.value * np.einsum("ij,ij->j", a, matrix @ a))
    np.testing.assert_allclose(cert.forms.norm, norms, rtol=1e-9)
    assert (cert.forms.norm <= cert.forms.root).all()
    assert (cert.worst_found.upper <= cert.bound.upper).all()
    assert (cert.bound.lower <= cert.worst_found.lower).all()
    assert cert.along(torch.ones(3)).degree == 0.0
    exact = ff.KernelRegression(kernel, 1e-2, solver="cholesky").fit(x, y)
    new = torch.cat([10.0**k * batch(30, 3, seed=k + 9) for k in range(-2, 9)])
    off = (fit.predict(new) - exact.predict(new)).abs()
    assert (off <= fit.error_bound(new) + exact.error_bound(new)).all()
    assert (exact.error_bound(new) < 1e-8).all()
    assert off.max() > 0.01 * fit.error_bound(new).max()  # the bound is not an empty one


def test_what_is_not_reached_is_an_error() -> None:
    x, y = data()
    few = ff.ConjugateGradients(max_iterations=3, preconditioner_rank=0)
    with pytest.raises(ConvergenceError, match=r"ended after 3 iterations at a relative residual"):
        ff.KernelRegression(GAUSSIAN, 1e-6, solver=few).fit(x, y)
    fine = ff.ConjugateGradients(tolerance=1e-17)
    with pytest.raises(ConvergenceError, match=r"rounding lets .* Give tolerance=1e-1\d if"):
        ff.KernelRegression(GAUSSIAN, 0.1, solver=fine).fit(x, y)
    growing = ff.Kernel(lambda a, b: torch.inf * (a @ b.T), lambda a: torch.inf * a[:, 0])
    with pytest.raises(RangeError, match="not finite"):
        ff.KernelRegression(growing, 0.1, solver="cg").fit(x, y)


def test_a_killed_solve_goes_on_to_the_same_answer(tmp_path: Path) -> None:
    x, y = data()

    def solver(**options: object) -> ff.ConjugateGradients:
        return ff.ConjugateGradients(
            preconditioner_rank=0, products="memory", checkpoint_seconds=0.0, **options
        )

    def fit(kernel: ff.Kernel, x: Tensor, **options: object) -> ff.regression.KernelFit:
        return ff.KernelRegression(kernel, 1e-3, solver=solver(**options)).fit(x, y)

    def die(number: int, residual: float) -> None:
        if number == 12:
            raise KeyboardInterrupt

    path = tmp_path / "made" / "solve.npz"
    whole = fit(GAUSSIAN, x)
    with pytest.raises(KeyboardInterrupt):
        fit(GAUSSIAN, x, checkpoint=path, progress=die)
    seen: list[int] = []
    resumed = fit(GAUSSIAN, x, checkpoint=path, progress=lambda number, _: seen.append(number))
    assert seen[0] == 12
    assert resumed.report.iterations == whole.report.iterations == seen[-1]
    assert (resumed.coefficients == whole.coefficients).all()
    # It is finished: nothing is left to do.
    again = fit(GAUSSIAN, x, checkpoint=path, progress=die)
    assert again.report.residuals == ()
    assert (again.coefficients == whole.coefficients).all()
    for kernel, inputs in ((WIDER, x), (GAUSSIAN, x + 1), (limit(3).ntk, x)):
        with pytest.raises(DataError, match="belongs to another"):
            fit(kernel, inputs, checkpoint=path)
    content = path.read_bytes()
    for damaged in (content[:-40], b"no file of numpy's", b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read"):
            fit(GAUSSIAN, x, checkpoint=path)


def test_auto_takes_what_fits_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data()
    regression = ff.KernelRegression(GAUSSIAN, 0.1, prior=GAUSSIAN)
    fit = regression.fit(x, y)
    assert fit.report.solver == "cholesky"
    assert fit.chosen.startswith("cholesky: the matrix of 87 points takes 6.1e-05 GB")
    fit.predict(x, return_std=True)
    monkeypatch.setattr(choice, "free_memory", lambda: 8 * 87**2 - 1)
    fit = regression.fit(x, y)
    assert fit.report.solver == "cg"
    assert fit.chosen.startswith("cg: the matrix")
    with pytest.raises(SettingsError, match=r"'cg' has no standard deviations.*cholesky"):
        fit.predict(x, return_std=True)
    assert "as asked for" in ff.KernelRegression(GAUSSIAN, 0.1, solver="cg").fit(x, y).chosen


def test_costs() -> None:
    model = CostModel(1000, 3e-6, 1e-6, 1e-9, fits=True, products=10)
    assert model.seconds == pytest.approx({"memory": 1.51, "store": 5.01, "recompute": 15.01})
    assert model.cheapest == "memory"
    apart = CostModel(1000, 3e-6, math.inf, 1e-9, fits=False, products=10)
    assert apart.cheapest == "recompute"
    assert str(apart) == "10 products of 1,000 points: recompute 15 s"
    found = measured(GAUSSIAN, batch(600, 3), None)
    assert found.multiply > 0.0
    assert 0.0 < found.compute < found.read == math.inf
    assert measured(GAUSSIAN, batch(1, 3), None).points == 1


@pytest.mark.parametrize(("seconds", "largest"), [(0.1, 300), (2.0, 32)])
def test_costs_are_those_of_large_tiles_unless_they_are_slow(
    monkeypatch: pytest.MonkeyPatch, seconds: float, largest: int
) -> None:
    sides: list[int] = []

    def timed(work: Callable[[], object]) -> float:
        work()
        return seconds

    def noted(kernel: ff.Kernel, x1: Tensor, x2: Tensor) -> np.ndarray:
        sides.append(len(x1))
        return np.ones((len(x1), len(x2)))

    monkeypatch.setattr(costs, "SIDE", 300)
    monkeypatch.setattr(costs, "cross_matrix", noted)
    monkeypatch.setattr(costs, "_seconds", timed)
    assert measured(GAUSSIAN, batch(1000, 3), None).compute == seconds / largest**2
    assert sides[0] == 32
    assert sides[-1] == largest


BAD = [
    ({"tolerance": 0.0}, "tolerance is 0.0"),
    ({"tolerance": float("nan")}, "tolerance is nan"),
    ({"max_iterations": 0}, "max_iterations is 0; it must be at least 1"),
    ({"preconditioner_rank": -1}, "preconditioner_rank is -1"),
    ({"checkpoint_seconds": float("nan")}, "checkpoint_seconds is nan"),
    ({"products": "disk"}, "products is 'disk'; choose one of auto, memory, store, recompute"),
    ({"products": "store"}, "needs store="),
    ({"store": "kernel.zarr"}, r"store is of type str.*open_kernel"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_settings_that_mean_nothing(options: dict, message: str, as_users_run_it: None) -> None:
    with pytest.raises(SettingsError, match=message):
        ff.ConjugateGradients(**options)


@pytest.mark.parametrize("solver", ["lu", ff.ConjugateGradients, None])
def test_what_is_no_solver(solver: object, as_users_run_it: None) -> None:
    with pytest.raises(SettingsError, match=r"give 'auto', 'cholesky', 'cg'.*settings"):
        ff.KernelRegression(GAUSSIAN, solver=solver)


def test_solvers_of_ones_own() -> None:
    class Zero:
        def solve(self, problem: Problem) -> ff.regression.Solution:
            solution = ff.Cholesky().solve(problem)
            solution.coefficients[:] = 0.0
            return solution

    x, y = data()
    fit = ff.KernelRegression(GAUSSIAN, 0.1, solver=Zero()).fit(x, y)
    assert not fit.predict(x).any()
    assert fit.chosen == "Zero, as asked for"
    assert isinstance(choice.NAMED["cg"], conjugate_gradients.ConjugateGradients)
