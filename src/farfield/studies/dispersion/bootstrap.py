"""How random a positive quantity is, with intervals by the bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_AT_ONCE = 100  # resampled sets of draws held in memory


@dataclass(frozen=True, eq=False)
class Dispersion:
    """Statistics of k quantities over draws, one number for each.

    Attributes:
        mean: ``E[T]``.
        ratio: ``E[T^2] / E[T]^2``, at least 1; 1 for a quantity that is not random.
        low: Lower end of its 95 % interval (percentiles of the bootstrap).
        high: Upper end.
        error: Its standard deviation over resampled sets.
        median_log: Median of ``log T``; not a number where some T is not positive.
        largest: The part of the sum of ``T^2`` that the largest draw alone makes up: far above
            1 / draws, tails are so heavy that the ratio is not yet known.
    """

    mean: Float[np.ndarray, " k"]
    ratio: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    error: Float[np.ndarray, " k"]
    median_log: Float[np.ndarray, " k"]
    largest: Float[np.ndarray, " k"]


def dispersion(draws: Float[np.ndarray, "n k"], resamples: int = 1000, seed: int = 0) -> Dispersion:
    """The dispersion of each column over its draws.

    With heavy tails, of which the sample holds too few draws, the interval is too narrow and lies
    too low: see ``largest``.

    Args:
        draws: A row for each draw.
        resamples: Sets of n draws taken from the n with replacement; the same for all columns.
        seed: Of the resampling.

    Returns:
        The statistics.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.

    Example:
        >>> import numpy as np
        >>> found = dispersion(np.array([[1.0, 2.0], [3.0, 2.0]]))
        >>> found.ratio.tolist()
        [1.25, 1.0]
    """
    generator = np.random.default_rng(seed)
    mean = draws.mean(axis=0)
    unit = draws / np.where(mean == 0.0, 1.0, mean)  # squares neither overflow nor vanish
    squares = unit**2
    ratio = squares.mean(axis=0) / unit.mean(axis=0) ** 2
    resampled = []
    for first in range(0, resamples, _AT_ONCE):
        sets = min(_AT_ONCE, resamples - first)
        counts = generator.multinomial(len(draws), np.full(len(draws), 1 / len(draws)), sets)
        weights = counts / len(draws)
        resampled.append((weights @ squares) / (weights @ unit) ** 2)
    ratios = np.concatenate(resampled)
    low, high = np.percentile(ratios, [2.5, 97.5], axis=0)
    positive = (draws > 0.0).all(axis=0)
    median = np.full(draws.shape[1], np.nan)
    median[positive] = np.median(np.log(draws[:, positive]), axis=0)
    return Dispersion(
        mean,
        ratio,
        low,
        high,
        ratios.std(axis=0),
        median,
        squares.max(axis=0) / squares.sum(axis=0),
    )
