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
