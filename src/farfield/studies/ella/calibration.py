"""How good and how honest probabilities and intervals are, and how well an alarm ranks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import special, stats

BINS = 15
"""Bins of confidence in the expected calibration error."""

LEVELS = np.linspace(0.05, 0.95, 19)
"""Levels of the quantiles whose coverage is measured."""


def class_scores(
    probabilities: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """Accuracy, mean negative log likelihood, expected calibration error and Brier score.

    The calibration error is ``sum_b n_b / n |accuracy_b - confidence_b|`` over bins of equal width
    of the largest probability; the Brier score ``mean_i sum_c (p_ic - [c = y_i])^2``, from 0 to 2.

    Args:
        probabilities: A row for each sample, with sum 1.
        labels: The true classes.

    Returns:
        The four by name: ``accuracy``, ``nll``, ``ece``, ``brier``.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (2017), equation 3; Brier (1950).

    Example:
        >>> import numpy as np
        >>> found = class_scores(np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0, 1]))
        >>> {name: round(value, 3) for name, value in found.items()}
        {'accuracy': 0.5, 'nll': 0.57, 'ece': 0.4, 'brier': 0.4}
    """
    true = probabilities[np.arange(len(labels)), labels]
    bins = reliability(probabilities, labels)
    gaps = (bins["accuracy"] - bins["confidence"]).abs()
    hot = np.eye(probabilities.shape[1])[labels]
    with np.errstate(divide="ignore"):  # a class that was ruled out costs infinitely much
        nll = float(-np.log(true).mean())
    return {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "nll": nll,
        "ece": float((bins["count"] * gaps).sum() / len(labels)),
        "brier": float(((probabilities - hot) ** 2).sum(axis=1).mean()),
    }


def reliability(
    probabilities: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], bins: int = BINS
) -> pd.DataFrame:
    """Accuracy against confidence: what a reliability diagram shows.

    Args:
        probabilities: A row for each sample.
        labels: The true classes.
        bins: Intervals of equal width between 0 and 1, closed at their upper ends.

    Returns:
        For each bin with samples: ``confidence`` (mean largest probability), ``accuracy``,
        ``count``.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    frame = pd.DataFrame({"bin": number, "confidence": confidence, "accuracy": right.astype(float)})
    found = frame.groupby("bin").agg(
        confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), count=("bin", "size")
    )
    return found.reset_index(drop=True)


def gaussian_scores(
    target: Float[np.ndarray, " n"], mean: Float[np.ndarray, " n"], std: Float[np.ndarray, " n"]
) -> dict[str, float]:
    """Root mean squared error, mean negative log likelihood and calibration of quantiles.

    The calibration error is the mean over :data:`LEVELS` q of ``|coverage(q) - q|``, where
    coverage(q) is the part of targets below the predicted quantile of level q.

    Args:
        target: The true values.
        mean: Predicted means.
        std: Predicted standard deviations, of observations, above 0.

    Returns:
        The three by name: ``rmse``, ``nll``, ``ece``.

    Source: Kuleshov, Fenner and Ermon, "Accurate Uncertainties for Deep Learning Using Calibrated
    Regression" (2018), section 3.5, with absolute differences for squares.

    Example:
        >>> import numpy as np
        >>> found = gaussian_scores(np.array([1.0, -1.0]), np.zeros(2), np.ones(2))
        >>> round(found["rmse"], 3), round(found["nll"], 3)
        (1.0, 1.419)
    """
    error = (target - mean) / std
    nll = 0.5 * error**2 + np.log(std) + 0.5 * np.log(2.0 * np.pi)
    return {
        "rmse": float(np.sqrt(((target - mean) ** 2).mean())),
        "nll": float(nll.mean()),
        "ece": float(np.abs(coverage(target, mean, std) - LEVELS).mean()),
    }


def coverage(
    target: Float[np.ndarray, " n"], mean: Float[np.ndarray, " n"], std: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " levels"]:
    """The part of targets at or below the Gaussian quantile of each level of :data:`LEVELS`.

    Args:
        target: The true values.
        mean: Predicted means.
        std: Predicted standard deviations.

    Returns:
        A part for each level.
    """
    levels = stats.norm.cdf((target - mean) / std)
    found: np.ndarray = (levels[:, None] <= LEVELS).mean(axis=0)
    return found


def entropy(probabilities: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, " n"]:
    """``-sum_c p_c log p_c`` of each row, in nats.

    Args:
        probabilities: A row for each sample.

    Returns:
        A number for each.
    """
    found: np.ndarray = special.entr(probabilities).sum(axis=1)
    return found


def auroc(inside: Float[np.ndarray, " n"], outside: Float[np.ndarray, " m"]) -> float:
    """How well an alarm ranks: the probability that it is higher outside than inside.

    Ties count half. This is the area under the curve of true against false alarms; 0.5 is chance.

    Args:
        inside: The alarm at samples like those of training.
        outside: At others.

    Returns:
        From 0 to 1; not a number if either is empty or holds what is not a number.

    Source: Mann and Whitney (1947); Hanley and McNeil (1982).

    Example:
        >>> import numpy as np
        >>> auroc(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
        0.875
    """
    n, m = len(inside), len(outside)
    if not n or not m:
        return float("nan")
    ranks = stats.rankdata(np.concatenate([inside, outside]))
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))
