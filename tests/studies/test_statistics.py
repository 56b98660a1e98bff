"""Scores and intervals against other implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from statsmodels.stats.multitest import multipletests

from farfield.studies.shared.statistics import (
    Interval,
    Mean,
    bootstrap,
    holm,
    mean,
    paired_p,
    scores,
)


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1.0, 1e160])
def test_scores_are_those_of_scikit_learn(rng: np.random.Generator, scale: float) -> None:
    target, prediction = rng.normal(3.0, 2.0, 50), rng.normal(3.0, 2.0, 50)
    got = scores(scale * target, scale * prediction)
    assert got["r2"] == pytest.approx(metrics.r2_score(target, prediction), rel=1e-12)
    rmse = metrics.root_mean_squared_error(target, prediction)
    assert got["rmse"] == pytest.approx(scale * rmse, rel=1e-12)
    assert got["mae"] == pytest.approx(
        scale * metrics.mean_absolute_error(target, prediction), rel=1e-12
    )
    assert got["max_abs_prediction"] == pytest.approx(scale * np.abs(prediction).max())


def test_constant_targets_have_no_r2() -> None:
    assert np.isnan(scores(np.ones(4), np.arange(4.0))["r2"])
    assert scores(np.zeros(3), np.zeros(3))["rmse"] == 0.0


def test_interval_is_scipys(rng: np.random.Generator) -> None:
    values = rng.normal(size=7)
    interval = stats.t.interval(0.95, 6, loc=values.mean(), scale=stats.sem(values))
    got = mean(values)
    assert got.value - got.half_width == pytest.approx(interval[0])
    assert got.value + got.half_width == pytest.approx(interval[1])


def test_interval_covers_as_often_as_it_says(rng: np.random.Generator) -> None:
    draws = rng.normal(1.0, 3.0, (4000, 4))
    means = [mean(row) for row in draws]
    covered = np.mean([abs(m.value - 1.0) <= m.half_width for m in means])
    # Binomial standard error of 4000 draws at 0.95 is 0.0034; four of them.
    assert abs(covered - 0.95) < 0.014


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Mean(0.5012, 0.0213), "0.501 ± 0.021"),
        (Mean(0.5012, 0.0013), "0.5012 ± 0.0013"),
        (Mean(0.00312, 0.0002), "0.00312 ± 0.00020"),
        (Mean(395.92, 18.56), "396 ± 19"),
        (Mean(200123.0, 29456.0), "200123 ± 29456"),
        (Mean(-0.001, 2.12), "0.0 ± 2.1"),
        (Mean(0.5, float("nan")), "0.5"),
        (Mean(float("nan"), float("nan")), "undefined"),
        (Mean(1.2346e12, 3.21e10), "(1.235 ± 0.032)e+12"),
        (Mean(1.2345e-7, float("nan")), "1.23e-07"),
        (Mean(-0.25, 0.0), "-0.25 ± 0"),
        (Mean(0.0, 0.0), "0 ± 0"),
    ],
)
def test_as_text(value: Mean, text: str) -> None:
    assert str(value) == text


def test_bootstrap_intervals_cover_even_with_six_seeds(rng: np.random.Generator) -> None:
    """As near to 95 % as resampling six values comes; plain percentiles cover some 86 %."""
    covered = []
    for _ in range(800):
        found = bootstrap(rng.normal(size=6), draws=2000)
        covered.append(found.low <= 0.0 <= found.high)
    # Resamples cannot reach beyond the six values, which costs some 3 %; three standard errors of
    # a share of 0.92 in 800 draws are 0.029.
    assert 0.89 < np.mean(covered) < 0.96


def test_bootstrap_approaches_students_interval(rng: np.random.Generator) -> None:
    values = rng.normal(3.0, 2.0, 200)
    found, student = bootstrap(values), mean(values)
    assert found.value == student.value
    # 10,000 resamples: the 2.5 % point of the mean is off by some 2 % of the half-width.
    assert found.high - found.value == pytest.approx(student.half_width, rel=0.1)
    assert found.value - found.low == pytest.approx(student.half_width, rel=0.1)
    assert bootstrap(values) == found
    assert str(bootstrap([1.5])) == "1.5"
    assert str(Interval(3.414, 2.9, 4.02)) == "3.41 [2.9, 4.02]"


def test_paired_p_values_are_those_of_scipy(rng: np.random.Generator) -> None:
    for k in (2, 5, 30):
        one, other = rng.normal(size=k), rng.normal(0.5, 1.0, k)
        expected = stats.ttest_rel(one, other).pvalue
        assert paired_p(one - other) == pytest.approx(expected, rel=1e-9)
    assert np.isnan(paired_p([1.0]))
    assert paired_p([0.0, 0.0]) == 1.0
    assert paired_p([2.0, 2.0, 2.0]) == 0.0


def test_holm_is_that_of_statsmodels(rng: np.random.Generator) -> None:
    for size in (1, 2, 7, 40):
        p = rng.uniform(0.0, 0.2, size) ** 2
        p[0] = p[-1]  # equal ones
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)
    assert np.isnan(holm([0.01, float("nan")])).tolist() == [False, True]
    assert holm([0.01, float("nan")])[0] == 0.02
