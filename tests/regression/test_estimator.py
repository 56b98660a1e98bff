"""The scikit-learn estimator: its contract, pipelines, searches."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import farfield as ff
from farfield.errors import MissingExtraError, SettingsError


def test_scikit_learns_own_checks() -> None:
    # In a process of its own: these checks pass arguments of wrong types to __init__ on purpose,
    # which the type checks of this one would refuse.
    script = """
import warnings
from sklearn.utils.estimator_checks import check_estimator
import farfield as ff
warnings.simplefilter("ignore")  # scikit-learn tells of what it skips by warnings
results = check_estimator(ff.NTKRegressor())
assert len(results) > 40
print({r["check_name"] for r in results if r["status"] != "passed"})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # That one runs only with SCIPY_ARRAY_API set.
    assert done.stdout.strip() in ("{'check_array_api_input'}", "set()")


def test_pipeline_and_search(rng) -> None:
    x = rng.normal(100.0, [1.0, 50.0], (60, 2))
    y = np.sin(x[:, 0] - 100) + 0.02 * (x[:, 1] - 100)
    pipeline = make_pipeline(StandardScaler(), ff.NTKRegressor(hidden=(8, 8)))
    search = GridSearchCV(
        pipeline,
        {"ntkregressor__ridge": [1e-3, 1e6], "ntkregressor__norm_at": ["first", "last"]},
        cv=3,
    )
    search.fit(x, y)
    assert search.best_params_["ntkregressor__ridge"] == 1e-3
    assert search.score(x, y) > 0.95
    mean, std = search.best_estimator_.predict(x, return_std=True)
    assert mean.shape == std.shape == (60,)


def test_it_is_kernel_regression(rng) -> None:
    x, y, new = rng.normal(size=(20, 3)), rng.normal(size=(20, 2)), rng.normal(size=(5, 3))
    estimator = ff.NTKRegressor((4,), "gelu", None, ridge=0.1, weight_var=1.5, bias_var=0.2)
    limit = ff.infinite_width(ff.mlp(3, [4], 2, activation="gelu"), 1.5, 0.2)
    fit = ff.KernelRegression(limit.ntk, 0.1, limit.nngp)
    mean, std = fit.fit(torch.tensor(x), torch.tensor(y)).predict(torch.tensor(new), True)
    found = estimator.fit(x, y).predict(new, return_std=True)
    np.testing.assert_array_equal(found[0], mean)
    np.testing.assert_array_equal(found[1], std)


def test_settings_are_refused_when_fitted(rng) -> None:
    with pytest.raises(SettingsError, match="activation 'step'"):
        ff.NTKRegressor(activation="step").fit(rng.normal(size=(5, 2)), rng.normal(size=5))


def test_without_scikit_learn(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "farfield.regression.estimator", raising=False)
    with pytest.raises(MissingExtraError, match="tabular"):
        _ = ff.NTKRegressor
