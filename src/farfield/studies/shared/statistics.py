"""Scores of predictions, and means with confidence intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with the half-width of its confidence interval.

    Attributes:
        value: The mean.
        half_width: Half of the interval; not a number with fewer than two values.
    """

    value: float
    half_width: float

    def __str__(self) -> str:
        """For example ``0.501 ± 0.021``: two significant digits of the interval."""
        if not np.isfinite(self.value):
            return "undefined"
        size = max(abs(self.value), self.half_width if np.isfinite(self.half_width) else 0.0)
        exponent = int(np.floor(np.log10(size))) if size > 0 else 0
        if not np.isfinite(self.half_width):
            return f"{self.value:.3g}"
        if not -4 <= exponent <= 6:
            unit = 10.0**exponent
            return f"({_rounded(self.value / unit, self.half_width / unit)})e{exponent:+03d}"
        return _rounded(self.value, self.half_width)


def _rounded(value: float, half_width: float) -> str:
    if half_width == 0:
        return f"{value:.3g} ± 0"
    decimals = max(0, 1 - int(np.floor(np.log10(half_width))))
    # Adding 0 turns a rounded -0.0 into 0.0.
    return f"{round(value, decimals) + 0.0:.{decimals}f} ± {half_width:.{decimals}f}"


def mean(values: Sequence[float] | np.ndarray | pd.Series, confidence: float = 0.95) -> Mean:
    """The mean and its confidence interval ``m +- t s / sqrt(k)`` by Student's t.

    Args:
        values: One value for each of k seeds.
        confidence: Level of the interval.

    Returns:
        The mean; its half-width is not a number for a single value.
    """
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return Mean(float(array.mean()), float("nan"))
    quantile = stats.t.ppf(0.5 + confidence / 2, len(array) - 1)
    error = float(spread(array)) * np.sqrt(1 / (len(array) - 1))
    return Mean(float(array.mean()), float(quantile * error))


@dataclass(frozen=True)
class Interval:
    """A mean over seeds between the ends of its confidence interval.

    Attributes:
        value: The mean.
        low: Lower end; not a number with fewer than two values.
        high: Upper end; likewise.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """For example ``3.41 [2.90, 4.02]``."""
        if not np.isfinite(self.low):
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def bootstrap(
    values: Sequence[float] | np.ndarray | pd.Series, confidence: float = 0.95, draws: int = 10_000
) -> Interval:
    """The mean and its expanded percentile interval from the bootstrap.

    Percentile intervals are too narrow with few values: the bootstrap's variance lacks the factor
    ``k / (k - 1)``, and it takes normal quantiles for Student's. So the percentiles taken are
    those at ``Phi(-+ t sqrt(k / (k - 1)))``, with t the quantile of Student's distribution with
    k - 1 degrees of freedom.

    Args:
        values: One value for each of k seeds.
        confidence: Level of the interval.
        draws: Resamples; they are the same in every call.

    Returns:
        The mean; its ends are not a number for a single value.

    Source: Hesterberg, "What Teachers Should Know About the Bootstrap" (The American Statistician,
    2015), section 4.4.
    """
    array = np.asarray(values, dtype=float)
    k = len(array)
    if k < 2:
        return Interval(float(array.mean()), float("nan"), float("nan"))
    chosen = np.random.default_rng(0).integers(0, k, (draws, k))
    quantile = stats.t.ppf(0.5 + confidence / 2, k - 1) * np.sqrt(k / (k - 1))
    low, high = np.quantile(array[chosen].mean(axis=1), stats.norm.cdf([-quantile, quantile]))
    return Interval(float(array.mean()), float(low), float(high))


def paired_p(differences: Sequence[float] | np.ndarray | pd.Series) -> float:
    """The two-sided p-value of Student's t-test that paired differences have mean 0.

    Args:
        differences: One for each seed.

    Returns:
        The p-value; not a number for a single difference.
    """
    array = np.asarray(differences, dtype=float)
    if len(array) < 2:
        return float("nan")
    error = float(spread(array)) / np.sqrt(len(array) - 1)
    if error == 0:
        return 1.0 if array[0] == 0 else 0.0
    return float(2.0 * stats.t.sf(abs(array.mean()) / error, len(array) - 1))


def holm(p_values: Sequence[float] | np.ndarray) -> Float[np.ndarray, " n"]:
    """P-values adjusted for being several: below alpha, all of them are right at level alpha.

    In increasing order, the i-th of n (from 0) is multiplied by n - i, made no smaller than the
    one before it, and at most 1.

    Args:
        p_values: The p-values of a family of tests.

    Returns:
        The adjusted ones in the same order; those that are not a number stay so and count.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979).
    """
    array = np.asarray(p_values, dtype=float)
    order = np.argsort(array)
    scaled = array[order] * np.arange(len(array), 0, -1)
    adjusted = np.empty_like(array)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def spread(values: Float[np.ndarray, "n *columns"]) -> Float[np.ndarray, "*columns"]:
    """The standard deviation ``sqrt(mean (v - mean v)^2)`` of each column, at any scale.

    Args:
        values: Rows of numbers.

    Returns:
        One number for each column, exactly 0 for a constant one.
    """
    # In units of the largest deviation, so that squares neither overflow nor vanish.
    deviation = values - values.mean(axis=0)
    largest = np.abs(deviation).max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)
    found: np.ndarray = unit * np.sqrt(((deviation / unit) ** 2).mean(axis=0))
    # The mean of equal numbers may differ from them in the last digit.
    return np.asarray(np.where(np.ptp(values, axis=0) == 0, 0.0, found))


def scores(
    target: Float[np.ndarray, " n"], prediction: Float[np.ndarray, " n"]
) -> dict[str, float]:
    """R2, RMSE, MAE and the largest absolute prediction.

    ``R2 = 1 - sum (y - f)^2 / sum (y - mean y)^2``, which is undefined (not a number) for a
    constant target and below 0 when a constant would predict better.

    Args:
        target: The true values y.
        prediction: The predictions f.

    Returns:
        The four scores by name.
    """
    # In units of the largest number, so that squares neither overflow nor vanish.
    unit = max(float(np.abs(target).max()), float(np.abs(prediction).max())) or 1.0
    error = (prediction - target) / unit
    total = float((((target - target.mean()) / unit) ** 2).sum())
    return {
        "r2": 1.0 - float((error**2).sum()) / total if total > 0 else float("nan"),
        "rmse": unit * float(np.sqrt((error**2).mean())),
        "mae": unit * float(np.abs(error).mean()),
        "max_abs_prediction": float(np.abs(prediction).max()),
    }
