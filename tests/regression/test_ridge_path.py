"""Many ridges from one decomposition, against a fit for each, and leaving points out by hand."""

import numpy as np
import pytest
import torch
from cases import batch, limit

import farfield as ff
from farfield.errors import SettingsError
from farfield.regression import RidgePath

KERNEL = limit().ntk
RIDGES = [1e-3, 0.1, 7]


def test_each_ridge_is_a_fit_of_its_own() -> None:
    x, y, new = batch(12), batch(12, 2, seed=1), batch(5, seed=2)
    x, y = torch.cat([x, x[:4]]), torch.cat([y, -y[:4]])
    path = RidgePath(KERNEL, x, y, RIDGES)
    for ridge, predicted in zip(RIDGES, path.predict(new), strict=True):
        fit = ff.KernelRegression(KERNEL, ridge).fit(x, y)
        torch.testing.assert_close(predicted, fit.predict(new), rtol=1e-8, atol=1e-8)
    flat = RidgePath(KERNEL, x, y[:, 0], RIDGES)
    torch.testing.assert_close(flat.predict(new), path.predict(new)[..., 0])
    assert flat.leave_one_out().shape == (3, 12)


def test_leaving_one_out_is_leaving_one_out() -> None:
    x, y = batch(8), batch(8, 2, seed=1)
    again, targets = torch.cat([x, x[:1]]), torch.cat([y, y[:1] + 1.0])
    errors = RidgePath(KERNEL, again, targets, RIDGES).leave_one_out()
    means = y.clone()
    means[0] += 0.5
    for ridge, found in zip(RIDGES, errors, strict=True):
        for left in range(8):
            kept = [row for row in range(9) if row % 8 != left]
            fit = ff.KernelRegression(KERNEL, ridge).fit(again[kept], targets[kept])
            expected = means[left] - fit.predict(x[left : left + 1])[0]
            np.testing.assert_allclose(found[left], expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("ridges", [[], [0.0], [1.0, -1.0], [float("nan")]])
def test_ridges_that_are_refused(ridges) -> None:
    with pytest.raises(SettingsError, match="ridge"):
        RidgePath(KERNEL, batch(3), batch(3, 1), ridges)
