"""Predictions against naive formulas, and the inputs that break others."""

import copy
import pickle

import numpy as np
import pytest
import torch
from cases import batch, limit, naive

import farfield as ff
from farfield.errors import (
    ConditioningWarning,
    DataError,
    DuplicateWarning,
    RangeError,
    SettingsError,
    SingularKernelError,
)
from farfield.regression import matrices
from farfield.regression.duplicates import merge_duplicates

LINEAR = ff.Kernel(lambda a, b: a @ b.T, lambda a: a.square().sum(-1))


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 10, 1e8])
@pytest.mark.parametrize("norm", [None, "layer"])
def test_predictions_are_those_of_the_formula(ridge, norm) -> None:
    kernel = limit(norm=norm).ntk
    x, y, new = batch(40), batch(40, 3, seed=1), batch(9, seed=2)
    fit = ff.KernelRegression(kernel, ridge).fit(x, y)
    expected = naive(kernel, x, y, new, ridge)
    # Both lose digits to the condition number, which is below 1e5 here.
    np.testing.assert_allclose(fit.predict(new), expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(fit.predict(x[:0]), np.empty((0, 3)))
    single = ff.KernelRegression(kernel, ridge).fit(x, y[:, 0]).predict(new)
    assert single.shape == (9,)
    np.testing.assert_allclose(single, expected[:, 0], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_duplicates_change_nothing(ridge) -> None:
    kernel = limit().ntk
    x, y, new = batch(12), batch(12, 2, seed=1), batch(9, seed=2)
    again = torch.cat([x, x[:5], x[3:4], x[3:4]])
    targets = torch.cat([y, y[:5], y[3:4], y[3:4]])
    fit = ff.KernelRegression(kernel, ridge).fit(again, targets)
    assert len(fit.support) == 12
    expected = naive(kernel, again, targets, new, ridge)
    np.testing.assert_allclose(fit.predict(new), expected, rtol=1e-8, atol=1e-8)


def test_different_targets_of_equal_inputs_are_averaged() -> None:
    kernel = limit().ntk
    x, y = torch.cat([batch(6), batch(6)[:1]]), torch.tensor([0.0, 1, 2, 3, 4, 5, 6])
    with pytest.warns(DuplicateWarning, match="1 of the 6 distinct inputs"):
        fit = ff.KernelRegression(kernel).fit(x, y)
    assert fit.predict(x[:1]).item() == pytest.approx(3.0, abs=1e-10)
    expected = naive(kernel, x, y, batch(4, seed=5), 0.0)
    np.testing.assert_allclose(fit.predict(batch(4, seed=5)), expected, rtol=1e-8)
    # With a ridge the mean is what the regression on all points does: nothing to warn of.
    fit = ff.KernelRegression(kernel, 0.2).fit(x, y)
    expected = naive(kernel, x, y.double(), batch(4, seed=5), 0.2)
    np.testing.assert_allclose(fit.predict(batch(4, seed=5)), expected, rtol=1e-10)


def test_merging_keeps_order_and_bits() -> None:
    x = torch.tensor([[5.0, 0.0], [1.0, 2.0], [5.0, -0.0], [0.1, 0.2], [1.0, 2.0], [1.0, 2.0]])
    y = torch.tensor([[0.1], [0.3], [0.1], [7.0], [0.3], [0.3]], dtype=torch.float64)
    merged = merge_duplicates(x, y)
    assert torch.equal(merged.x, x[[0, 1, 3]])
    assert torch.equal(merged.y, y[[0, 1, 3]])
    assert merged.counts.tolist() == [2, 3, 1]
    assert merged.conflicts == 0
    assert merged.points == 6
    assert len(merge_duplicates(x[:, :0], y).x) == 1
    images = torch.zeros(3, 2, 2, 2)
    images[1, 0, 1, 1] = 1.0
    assert merge_duplicates(images, y[:3]).counts.tolist() == [2, 1]


def naive_variances(limits, x, new, ridge):
    """The covariance of ``f0(x) - A f0(X)``, from the joint kernel of all inputs at once."""
    kernel = limits.ntk(x).numpy() + ridge * np.eye(len(x))
    weights = limits.ntk(new, x).numpy() @ np.linalg.inv(kernel)
    joint = limits.nngp(torch.cat([new, x])).numpy()
    residual = np.hstack([np.eye(len(new)), -weights])
    return np.diag(residual @ joint @ residual.T)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_standard_deviations(ridge, monkeypatch) -> None:
    limits, x, new = limit(), batch(15), batch(7, seed=3, scale=3.0)
    y = batch(15, 1, seed=1)
    _, std = ff.KernelRegression(limits.ntk, ridge, limits.nngp).fit(x, y).predict(new, True)
    expected = naive_variances(limits, x, new, ridge)
    np.testing.assert_allclose(std.square(), expected, rtol=1e-7, atol=1e-12)
    matrix = limits.nngp(x).numpy() + ridge * np.eye(15)
    cross = limits.nngp(new, x).numpy()
    posterior = limits.nngp(new).numpy() - cross @ np.linalg.solve(matrix, cross.T)
    regression = ff.KernelRegression(limits.nngp, ridge)
    mean, std = regression.fit(x, y).predict(new, return_std=True)
    np.testing.assert_allclose(std.square(), np.diag(posterior), rtol=1e-7, atol=1e-12)
    monkeypatch.setattr(matrices, "TILE_BYTES", 8 * 15 * 2)  # two new inputs at once
    tiled = regression.fit(x, y).predict(new, return_std=True)
    torch.testing.assert_close(tiled, (mean, std), rtol=1e-10, atol=1e-12)


def test_standard_deviations_by_drawing_functions() -> None:
    # f0(x) - A f0(X) of functions drawn from the prior: the ensemble, without its formula.
    limits, x, new = limit(), batch(4), batch(3, seed=3)
    y = torch.tensor([1.0, -1.0, 0.5, 2.0], dtype=torch.float64)
    mean, std = ff.KernelRegression(limits.ntk, prior=limits.nngp).fit(x, y).predict(new, True)
    joint = limits.nngp(torch.cat([new, x])).numpy()
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(7), joint, 20000)
    trained = draws[:, :3] + (y.numpy() - draws[:, 3:]) @ np.linalg.solve(
        limits.ntk(x).numpy(), limits.ntk(x, new).numpy()
    )
    error = trained.std(0) / np.sqrt(20000)
    assert (np.abs(trained.mean(0) - mean.numpy()) <= 5 * error).all()
    # The standard error of a standard deviation is std / sqrt(2 draws).
    assert (np.abs(trained.std(0) / std.numpy() - 1) <= 5 / np.sqrt(40000)).all()


def test_standard_deviations_vanish_at_training_points() -> None:
    limits, x = limit(), batch(10)
    for prior in (None, limits.nngp):
        fit = ff.KernelRegression(limits.ntk, prior=prior).fit(x, batch(10, 1))
        _, std = fit.predict(torch.cat([x, x + 1e-9, 1e30 * x]), return_std=True)
        assert (std[:10] <= 1e-6).all()  # the root of the rounding of variances of about 1
        # k(x, x') bends at x = x', so that the variance at the distance d is of order d.
        assert (std[10:20] <= 3e-4).all()
        assert (std >= 0).all()
        assert (std[20:] > 0.01).all()


def test_200_points_on_a_line_without_bias_are_refused() -> None:
    x = torch.linspace(-3, 3, 200, dtype=torch.float64)[:, None]
    for kernel in (limit(1, norm=None, bias_var=0.0).ntk, limit(1, bias_var=0.0).ntk):
        with pytest.raises(SingularKernelError, match=r"eigenvalue.*ridge.*bias_var > 0"):
            ff.KernelRegression(kernel).fit(x, torch.sin(x))
        fit = ff.KernelRegression(kernel, ridge=1e-6).fit(x, torch.sin(x))
        assert fit.predict(x).isfinite().all()


def test_nearly_equal_points_are_warned_of() -> None:
    x = torch.cat([batch(5), batch(5)[:1] + 1e-13])
    with pytest.warns(ConditioningWarning, match="points most alike are 0 and 5"):
        ff.KernelRegression(LINEAR_PLUS_NOISE, 1e-13).fit(x, batch(6, 1))


LINEAR_PLUS_NOISE = ff.Kernel(
    lambda a, b: torch.exp(-torch.cdist(a, b).square()), lambda a: torch.ones_like(a[:, 0])
)


def test_degenerate_shapes() -> None:
    kernel = limit().ntk
    one = ff.KernelRegression(kernel).fit(batch(1), torch.tensor([7.0]))
    assert one.predict(batch(1)).item() == pytest.approx(7.0, rel=1e-14)
    constant = ff.KernelRegression(kernel).fit(batch(20), torch.full((20,), 3.0))
    np.testing.assert_allclose(constant.predict(batch(20)), 3.0, rtol=1e-10)
    wide = ff.KernelRegression(kernel).fit(batch(3), batch(3, 50, seed=1))
    np.testing.assert_allclose(wide.predict(batch(3)), batch(3, 50, seed=1), atol=1e-10)
    whole = ff.KernelRegression(kernel).fit(batch(3), torch.tensor([0, 1, 2]))
    np.testing.assert_allclose(whole.predict(batch(3)), [0, 1, 2], atol=1e-10)


def test_single_precision_inputs_are_solved_in_double() -> None:
    kernel, x, y = limit().ntk, batch(30).float(), batch(30, 1, seed=1).float()
    fit = ff.KernelRegression(kernel).fit(x, y)
    expected = naive(kernel, x.double(), y.double(), batch(5).double(), 0.0)
    np.testing.assert_allclose(fit.predict(batch(5)), expected, rtol=1e-7, atol=1e-8)
    assert fit.predict(x).dtype == torch.float64
    # A kernel that is only known in float32 is warned of where one in float64 is not.
    x[1] = x[0] + 1e-3
    single = ff.KernelRegression(kernel, 1e-3, kernel_dtype=torch.float32)
    with pytest.warns(ConditioningWarning, match="float32"):
        rough = single.fit(x, y).solution.posterior.multiply_kernel(np.eye(30, order="F"))
    np.testing.assert_allclose(rough, kernel(x).double(), rtol=1e-6, atol=1e-6)
    ff.KernelRegression(kernel, 1e-3).fit(x, y)


def test_far_away() -> None:
    x, y = batch(10), batch(10, 1)
    bounded = ff.KernelRegression(limit().ntk).fit(x, y)
    far = bounded.predict(torch.cat([scale * x for scale in (1e10, 1e30, 1e150)]))
    torch.testing.assert_close(far[:10], far[20:], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(far[10:20], far[20:], rtol=1e-12, atol=1e-12)
    growing = ff.KernelRegression(limit(norm=None).ntk).fit(x, y)
    assert growing.predict(1e30 * x).abs().max() > 1e29
    with pytest.raises(RangeError, match="beyond"):
        growing.predict(1e30 * x.float().double() * 1e277)


def test_bad_input_is_refused_before_any_work() -> None:
    def kernel(*args: object) -> torch.Tensor:
        raise AssertionError("the kernel was computed")

    untouched = ff.KernelRegression(ff.Kernel(kernel, kernel))
    x, y = batch(4), batch(4, 1)
    y[1], bad = float("nan"), batch(4)
    bad[2, 0] = float("inf")
    for arguments, error, message in [
        ((x, y), DataError, "1 of the 4 target values are NaN"),
        ((x, y[:3]), SettingsError, r"targets have shape \(3, 1\) for 4 inputs"),
        ((x, torch.zeros(4, 1, 1)), SettingsError, "must have shape"),
        ((x, torch.zeros(4, 0)), SettingsError, "no column"),
        ((x[:0], y[:0]), SettingsError, "no training points"),
        ((bad, torch.zeros(4)), SettingsError, "1 of the 8 numbers of the inputs"),
        ((x[:, 0], torch.zeros(4)), SettingsError, r"x\[:, None\]"),
        ((x, torch.zeros(4, dtype=torch.complex64)), SettingsError, "complex"),
    ]:
        with pytest.raises(error, match=message):
            untouched.fit(*arguments)
    with pytest.raises(RangeError, match="too large to be computed with"):
        ff.KernelRegression(limit(norm=None).ntk).fit(1e152 * x, torch.zeros(4))
    for ridge in (-1.0, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match="ridge is"):
            ff.KernelRegression(limit().ntk, ridge)
    fit = ff.KernelRegression(limit().ntk).fit(x, torch.zeros(4))
    with pytest.raises(SettingsError, match="NaN or"):
        fit.predict(bad)
    with pytest.raises(SettingsError, match=r"must be \(m, 2\)"):
        fit.predict(torch.zeros(2, 3, dtype=torch.float64))


def test_arrays_are_refused_in_a_sentence(as_users_run_it: None) -> None:
    x, y = batch(4), batch(4, 1)
    regression = ff.KernelRegression(limit().ntk)
    for call in (
        lambda: regression.fit(x.numpy(), y),
        lambda: regression.fit(x, y.numpy()),
        lambda: regression.fit(x, y).predict(x.tolist()),
        lambda: ff.GradientFlow(limit().ntk, x.numpy(), y),
    ):
        with pytest.raises(SettingsError, match=r"must be a torch\.Tensor"):
            call()


def test_copies_and_pickles_predict_the_same() -> None:
    x, y = batch(8), batch(8, 1)
    model = ff.gaussian_init_(ff.mlp(2, [8], 1), weight_var=1.3, bias_var=0.4)
    for variances in ({}, {"weight_var": {"0": 0.7}, "bias_var": 0.2}):
        fit = ff.KernelRegression(ff.infinite_width(model, **variances).ntk).fit(x, y)
        for other in (copy.deepcopy(fit), pickle.loads(pickle.dumps(fit))):
            assert torch.equal(other.predict(x + 1), fit.predict(x + 1))
