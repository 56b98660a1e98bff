"""A fitted table far away, along each numeric feature."""

from __future__ import annotations

import numpy as np
import pandas as pd

from farfield.data import NewRows, Prepared
from farfield.studies.regression.fit import Fitted
from farfield.studies.regression.rows import QUANTILE

MOST_CURVES = 6
"""Features that are drawn at most."""

_REACH = (10.0, 100.0)  # standard deviations: a curve goes at least and at most so far
_POINTS = 161
_BEND = 3.0  # points are closer together near the training rows


def numeric_features(prepared: Prepared) -> list[int]:
    """The features that are columns of their own, and no part of a text column."""
    return [k for k, name in enumerate(prepared.names) if name in prepared.frame.columns]


def limits(prepared: Prepared, fitted: Fitted) -> pd.DataFrame:
    """What the prediction goes to as a feature goes to plus or minus infinity.

    Args:
        prepared: The training table.
        fitted: The predictor.

    Returns:
        Feature, direction, range in training, degree p and ``lim prediction / |feature|^p``: for
        p = 0 the limit.
    """
    features = numeric_features(prepared)
    train = prepared.features[fitted.rows]
    directions = np.repeat(np.eye(train.shape[1])[np.array(features, dtype=int)], 2, axis=0)
    directions[::2] *= -1
    degrees, found = fitted.limits(directions)
    places = np.repeat(np.array(features, dtype=int), 2)
    return pd.DataFrame(
        {
            "feature": [prepared.names[k] for k in places],
            "direction": ["to -infinity", "to +infinity"] * len(features),
            "least": train.min(axis=0)[places],
            "largest": train.max(axis=0)[places],
            "degree": degrees,
            "limit": found / fitted.inputs.unit[places] ** degrees,
        }
    )


def typical_row(prepared: Prepared, fitted: Fitted) -> int:
    """The training row nearest to the mean of all, as a place among those that trained."""
    standard = fitted.inputs.apply(prepared.features[fitted.rows])
    return int(np.hypot.reduce(standard, axis=1).argmin())


def curves(prepared: Prepared, new: NewRows, fitted: Fitted, with_std: bool) -> pd.DataFrame:
    """Predictions along the features in which the new rows are furthest from the training mean.

    Args:
        prepared: The training table.
        new: The new rows.
        fitted: The predictor.
        with_std: Whether to compute standard deviations.

    Returns:
        Feature, its value, prediction, lower and upper end of the 95 % interval; the other
        features as in the typical row. Their limits are those of the mean: what stays finite does
        not count far away.
    """
    features = numeric_features(prepared)
    furthest = np.abs(fitted.inputs.apply(new.features)).max(axis=0)
    chosen = sorted(sorted(features, key=lambda k: -furthest[k])[:MOST_CURVES])
    train = prepared.features[fitted.rows]
    typical = fitted.inputs.apply(train[typical_row(prepared, fitted)][None])
    steps = np.sinh(np.linspace(-_BEND, _BEND, _POINTS)) / np.sinh(_BEND)
    frames = [pd.DataFrame(columns=["feature", "value", "prediction", "lower", "upper"])]
    for k in chosen:
        reach = float(np.clip(1.2 * furthest[k], *_REACH))
        standard = np.repeat(typical, _POINTS, axis=0)
        standard[:, k] = reach * steps
        points = fitted.inputs.undo(standard)
        mean, std = fitted.predict(points, with_std)
        half = QUANTILE * np.hypot(std, fitted.chosen.error)
        frames.append(
            pd.DataFrame(
                {
                    "feature": prepared.names[k],
                    "value": points[:, k],
                    "prediction": mean,
                    "lower": mean - half,
                    "upper": mean + half,
                }
            )
        )
    return pd.concat(frames[1:] or frames, ignore_index=True)
