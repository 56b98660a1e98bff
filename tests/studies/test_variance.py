"""The output-variance study: its theory against the formula, its ensembles against theory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import farfield as ff
from farfield import report
from farfield.errors import SettingsError
from farfield.studies import variance

SMALL = variance.Settings(
    width=64, depths=(1, 2), weight_vars=(2.0,), seeds=40, rows=3, test_rows=6, steps=150
)


def test_theory_is_the_formula_of_three_terms() -> None:
    result = variance.run(dataclasses.replace(SMALL, depths=(2,), seeds=3, steps=2))
    x, y, other = variance.study.data(SMALL)
    model = ff.mlp(10, [64, 64], 1)
    limit = ff.infinite_width(model, 2.0, 0.0, parameterization="standard")
    inverse = np.linalg.inv(limit.ntk(x).numpy())
    cross = limit.ntk(other, x).numpy() @ inverse
    expected = (
        limit.nngp(other).numpy()
        + cross @ limit.nngp(x).numpy() @ cross.T
        - 2.0 * cross @ limit.nngp(x, other).numpy()
    ).diagonal()
    found = result.predictions
    np.testing.assert_allclose(found["theory_std"] ** 2, expected, rtol=1e-9)
    np.testing.assert_allclose(found["theory_mean"], (cross @ y.numpy())[:, 0], rtol=1e-9)


def test_shallow_ensembles_have_the_variance_of_theory() -> None:
    result = variance.run(SMALL)
    assert (result.metrics["loss"] < 1e-3).all()
    # 40 seeds, whose variances at all points go up and down together: some 15 %; and 1 / width.
    assert result.metrics["ratio"].between(0.5, 1.6).all()
    assert (result.metrics["low"] < result.metrics["ratio"]).all()
    assert (result.metrics["ratio"] < result.metrics["high"]).all()
    shallow = result.metrics.query("depth == 1").iloc[0]
    assert shallow["low"] < 1.25
    assert shallow["high"] > 0.8


def test_verdicts() -> None:
    result = variance.run(dataclasses.replace(SMALL, seeds=3, steps=2))
    words = {
        "holds": {"loss": 0.0, "low": 0.9, "high": 1.4},
        "too large": {"loss": 0.0, "low": 1.3, "high": 1.4},
        "too small": {"loss": 0.0, "low": 0.3, "high": 0.7},
        "not trained": {"loss": 0.5, "low": 0.9, "high": 1.1},
        "diverges": {"loss": np.nan, "low": np.nan, "high": np.nan},
    }
    for word, values in words.items():
        result.metrics.loc[0, list(values)] = list(values.values())
        assert variance.story.verdicts(result).loc[1, 2.0] == word


def test_steps_that_are_too_large_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variance.study, "_STEP", 1e4)
    result = variance.run(dataclasses.replace(SMALL, depths=(1,), seeds=3))
    assert np.isnan(result.metrics["loss"].iloc[0])
    assert "diverges at 1 layers" in result.story().answer


def test_variance_resumed_to_the_same_bits_and_drawn(tmp_path: Path) -> None:
    small = dataclasses.replace(SMALL, seeds=3, steps=3)
    first = variance.run(small, out=tmp_path)
    (tmp_path / "checkpoints" / "depth-2-2.parquet").unlink()
    again = variance.run(small, out=tmp_path, resume=True)
    pd.testing.assert_frame_equal(first.metrics, again.metrics, check_exact=True)
    page = report.write_report(again, tmp_path).read_text()
    assert page.count("<figure>") == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": 2}, "seeds is 2"),
        ({"depths": (2, 1)}, "increasing numbers"),
        ({"weight_vars": (0.0, 1.0)}, "above 0"),
        ({"steps": 0}, "steps is 0"),
        ({"momentum": 1.0}, "momentum is 1"),
    ],
)
def test_settings_of_variance_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        variance.Settings(**values)  # type: ignore[arg-type]
