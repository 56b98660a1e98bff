"""Regression on a few centres: the minimiser it says it is, and never silently something else."""

import mpmath
import numpy as np
import pytest
import torch
from cases import batch, limit
from torch import Tensor

import farfield as ff
from farfield.errors import (
    ConditioningWarning,
    RangeError,
    SettingsError,
    SingularKernelError,
)
from farfield.regression import sums
from farfield.regression.pivots import pivoted


def minimiser(kernel, x: Tensor, y: Tensor, z: Tensor, ridge: float, new: Tensor) -> np.ndarray:
    """``k(new, Z) (K_zx K_xz + r K_zz)^{-1} K_zx y`` in 60 digits, from the kernel's values."""
    with mpmath.workdps(60):
        own, cross, far = (
            mpmath.matrix(kernel(*pair).tolist()) for pair in ((z,), (x, z), (new, z))
        )
        left = cross.T * cross + mpmath.mpf(ridge) * own
        right = cross.T * mpmath.matrix(y.tolist())
        columns = [far * mpmath.lu_solve(left, right[:, j]) for j in range(y.shape[1])]
        return np.array([[float(value) for value in column] for column in columns]).T


@pytest.mark.parametrize("ridge", [0.0, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("norm", ["layer", None])
def test_it_is_the_minimiser(ridge: float, norm: str | None) -> None:
    kernel, x, y, new = limit(norm=norm).ntk, batch(40), batch(40, 2, seed=1), batch(9, seed=2)
    fit = ff.KernelRegression(kernel, ridge, solver=ff.Nystrom(x[:8])).fit(x, y)
    expected = minimiser(kernel, x, y, x[:8], ridge, new)
    # The equations have a condition of up to 1e4 here, and lose as many roundings.
    np.testing.assert_allclose(fit.predict(new), expected, rtol=1e-10, atol=1e-12 / (1 + ridge))
    assert fit.report.points == 40
    assert fit.report.support == 8


def test_centres_that_are_all_but_equal() -> None:
    kernel, x, y, new = limit().ntk, batch(40), batch(40, 1, seed=1), batch(9, seed=2)
    close = torch.cat([x[:8], x[:8] + 1e-6])
    fit = ff.KernelRegression(kernel, 0.1, solver=ff.Nystrom(close)).fit(x, y)
    # Sums of plain products of kernels would have lost all digits: cond(K_zz)^2 is above 1e14.
    assert np.linalg.cond(kernel(close).numpy()) > 1e7
    np.testing.assert_allclose(
        fit.predict(new), minimiser(kernel, x, y, close, 0.1, new), rtol=1e-9
    )


def test_equal_centres_count_once() -> None:
    kernel, x, y, new = limit().ntk, batch(30), batch(30, 1, seed=1), batch(9, seed=2)
    once = ff.KernelRegression(kernel, 0.1, solver=ff.Nystrom(x[:5])).fit(x, y)
    twice = ff.KernelRegression(kernel, 0.1, solver=ff.Nystrom(x[:5].repeat(3, 1))).fit(x, y)
    assert twice.report.support == 5
    assert twice.report.left_out == 10
    assert "10 more" in str(twice.report)
    np.testing.assert_allclose(twice.predict(new), once.predict(new), rtol=1e-12)


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_with_all_points_it_is_the_exact_regression(ridge: float) -> None:
    """Means, standard deviations and certificates, also with equal rows."""
    kernel, x = limit().ntk, batch(30)
    x, new = torch.cat([x, x[:5]]), torch.cat([batch(9, seed=2), batch(9, seed=3, scale=1e6)])
    y = batch(35, 2, seed=1)
    exact = ff.KernelRegression(kernel, ridge, solver="cholesky").fit(x, y)
    fit = ff.KernelRegression(kernel, ridge, solver=ff.Nystrom(x)).fit(x, y)
    for found, expected in zip(fit.predict(new, True), exact.predict(new, True), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fit.solution.squared_norms, exact.solution.squared_norms, rtol=1e-7)


def test_standard_deviations() -> None:
    """Against the formula by dense inverses; far from all centres those of the prior."""
    kernel, x, new, ridge = limit().nngp, batch(50), batch(7, seed=2), 0.3
    z = x[:10]
    fit = ff.KernelRegression(kernel, ridge, solver=ff.Nystrom(z)).fit(x, batch(50, 1, seed=1))
    _, std = fit.predict(new, return_std=True)
    own, cross, far = (kernel(*pair).numpy() for pair in ((z,), (x, z), (new, z)))
    inner = np.linalg.inv(own) - ridge * np.linalg.inv(cross.T @ cross + ridge * own)
    variance = kernel.diagonal(new).numpy() - np.einsum("ij,jk,ik->i", far, inner, far)
    np.testing.assert_allclose(std.square(), variance, rtol=1e-9)
    ensemble = ff.KernelRegression(limit().ntk, ridge, kernel, solver=ff.Nystrom(z))
    with pytest.raises(SettingsError, match="leave the prior out"):
        ensemble.fit(x, x[:, 0]).predict(new, return_std=True)


def test_the_certificate_is_of_the_function_that_predicts() -> None:
    kernel, x = limit().ntk, batch(300)
    y = x.sin().sum(1)
    fit = ff.KernelRegression(kernel, 1e-2, solver=ff.Nystrom(20)).fit(x, y)
    cert = ff.certify(fit)
    a = fit.coefficients[:, 0]
    own = kernel(fit.support).numpy()
    bound = np.sqrt(cert.kernel_bound.value * (a @ own @ a))
    assert cert.bound.largest == pytest.approx(bound, rel=1e-6)
    assert cert.bounded
    assert 0.05 * bound < cert.worst_found.value <= bound
    ray = cert.along(torch.tensor([1.0, 2.0]))
    np.testing.assert_allclose(ray.predictions[-1], ray.coefficient, rtol=1e-6)
    growing = ff.KernelRegression(limit(norm=None).ntk, 1.0, solver=ff.Nystrom(20)).fit(x, y)
    assert ff.certify(growing).bounded is False


def test_choices_of_centres() -> None:
    kernel, x = limit().ntk, batch(400)
    y = x[:, :1].sin()
    for choice in ("random", "pivoted"):
        fits = [
            ff.KernelRegression(kernel, 1e-3, solver=ff.Nystrom(25, choice, seed)).fit(x, y)
            for seed in (0, 0, 1)
        ]
        assert fits[0].support.equal(fits[1].support)
        assert not fits[0].support.equal(fits[2].support)
        assert fits[0].support.shape == (25, 2)
        assert (fits[0].support[:, None] == x).all(-1).any(1).all()
    few = ff.KernelRegression(kernel, 1e-3, solver="nystrom").fit(x[:10], y[:10])
    assert few.report.support == 10
    whole = ff.Nystrom(500, "pivoted").drawn(kernel, x[:10].__getitem__, 10)
    assert len(whole) == 10


def test_pivots_are_drawn_by_what_is_left() -> None:
    """Pairs of pivots of a kernel of 4 points, against the law of two draws."""
    matrix = torch.tensor(
        [[4.0, 1.8, 0.0, 0.5], [1.8, 1.0, 0.2, 0.0], [0.0, 0.2, 2.0, 1.0], [0.5, 0.0, 1.0, 1.0]],
        dtype=torch.float64,
    )
    kernel = ff.Kernel(
        lambda a, b: matrix[a[:, 0].long()][:, b[:, 0].long()],
        lambda a: matrix.diagonal()[a[:, 0].long()],
    )
    pool = torch.arange(4, dtype=torch.float64)[:, None]
    draws = 200
    counts = np.zeros((4, 4))
    for seed in range(draws):
        first, second = pivoted(kernel, pool, 2, seed).rows
        counts[first, second] += 1
    law = np.zeros((4, 4))
    for first in range(4):
        own = matrix.numpy()
        left = np.diag(own) - own[first] ** 2 / own[first, first]
        left[first] = 0.0
        law[first] = own[first, first] / np.trace(own) * left / left.sum()
    # Each count is binomial; 12 of them are within 4 standard deviations but once in 1,300.
    spread = np.sqrt(draws * law * (1 - law))
    assert (np.abs(counts - draws * law) <= 4.0 * spread + 1e-9).all()


def test_pivots_end_where_nothing_is_left() -> None:
    linear = ff.Kernel(lambda a, b: a @ b.T, lambda a: a.square().sum(-1))
    assert len(pivoted(linear, batch(50, 3), 20, 0).rows) == 3
    assert len(pivoted(linear, 1e-8 * batch(50, 3), 20, 0).rows) == 3
    equal = batch(1, 3).expand(30, 3)
    assert len(pivoted(linear, equal, 20, 0).rows) == 1


def test_many_tiles_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the linear model's normal equations."""
    monkeypatch.setattr(sums, "_TILE_BYTES", 4 * 8 * 300)
    linear = ff.Kernel(lambda a, b: a @ b.T, lambda a: a.square().sum(-1))
    x = batch(1000, 4)
    y = x[:, :2].cumsum(0)
    assert sums.tile_rows(4) == 300
    fit = ff.KernelRegression(linear, 0.5, solver=ff.Nystrom(x[:4])).fit(x, y)
    weights = np.linalg.solve((x.T @ x).numpy() + 0.5 * np.eye(4), (x.T @ y).numpy())
    np.testing.assert_allclose(fit.predict(x[:5]), x[:5].numpy() @ weights, rtol=1e-9)


def test_what_cannot_be_told_is_refused() -> None:
    kernel, x = limit().ntk, batch(40)
    few = ff.KernelRegression(kernel, 0.0, solver=ff.Nystrom(x[:20]))
    with pytest.raises(SingularKernelError, match=r"only 10 of 20 directions.*a ridge of"):
        few.fit(x[:10], x[:10, 0])
    tiny = ff.KernelRegression(kernel, 1e-14, solver=ff.Nystrom(x[:20]))
    with pytest.raises(SingularKernelError, match="only 10 of 20"):
        tiny.fit(x[:10], x[:10, 0])
    close = ff.KernelRegression(kernel, 1e-10, solver=ff.Nystrom(x[:20]))
    with pytest.warns(ConditioningWarning, match="close to singular"):
        close.fit(x[:10], x[:10, 0])
    growing = limit(norm=None).ntk
    with pytest.raises(RangeError, match="Scale the inputs down"):
        ff.KernelRegression(growing, 1.0, solver=ff.Nystrom(x[:5])).fit(1e152 * x, x[:, 0])
    nothing = ff.Kernel(lambda a, b: 0.0 * (a @ b.T), lambda a: 0.0 * a[:, 0])
    with pytest.raises(SingularKernelError, match="0 at all 5 centres"):
        ff.KernelRegression(nothing, 1.0, solver=ff.Nystrom(x[:5])).fit(x, x[:, 0])
    with pytest.raises(SettingsError, match="they must be the same"):
        ff.KernelRegression(kernel, 1.0, solver=ff.Nystrom(batch(5, 3))).fit(x, x[:, 0])
    with pytest.raises(SettingsError, match="at least 1"):
        ff.Nystrom(0)
    with pytest.raises(SettingsError, match="'random' or 'pivoted'"):
        ff.Nystrom(5, "best")
    with pytest.raises(SettingsError, match="NaN or infinite"):
        ff.Nystrom(x / 0.0)


@pytest.mark.usefixtures("as_users_run_it")
def test_settings_of_a_wrong_type() -> None:
    with pytest.raises(SettingsError, match="centres is of type float"):
        ff.Nystrom(10.0)


def test_huge_and_tiny_inputs() -> None:
    """A kernel of directions: inputs of any size give the same, and targets theirs."""
    model = ff.mlp(2, [8, 8], 1, norm="layer")
    model[1].eps = 0.0
    kernel, x = ff.infinite_width(model, 2.0, 0.0).ntk, batch(40)
    usual = ff.KernelRegression(kernel, 0.1, solver=ff.Nystrom(x[:10])).fit(x, x[:, :1])
    for scale in (1e-30, 1e30):
        there = ff.KernelRegression(kernel, 0.1, solver=ff.Nystrom(scale * x[:10]))
        found = there.fit(scale * x, x[:, :1]).predict(scale * x)
        np.testing.assert_allclose(found, usual.predict(x), rtol=1e-6, atol=1e-8)
        targets = ff.KernelRegression(kernel, 0.1, solver=ff.Nystrom(x[:10])).fit(x, scale * x)
        np.testing.assert_allclose(
            targets.predict(x)[:, :1], scale * usual.predict(x), rtol=1e-9, atol=1e-9 * scale
        )


def test_single_precision_kernels() -> None:
    kernel, x = limit().ntk, batch(200)
    y = x.sin()
    double = ff.KernelRegression(kernel, 10.0, solver=ff.Nystrom(x[:15])).fit(x, y)
    single = ff.KernelRegression(
        kernel, 10.0, kernel_dtype=torch.float32, solver=ff.Nystrom(x[:15])
    ).fit(x, y)
    assert single.support.dtype == torch.float32
    np.testing.assert_allclose(single.predict(x), double.predict(x), atol=1e-4)
    risky = ff.KernelRegression(kernel, 1.0, kernel_dtype=torch.float32, solver=ff.Nystrom(x[:15]))
    with pytest.warns(ConditioningWarning, match="errors of up to 6e-07"):
        risky.fit(x, y)
