"""A fitted table far away: along each numeric feature, the others at their mean."""

from __future__ import annotations

import numpy as np
import pandas as pd

from farfield.data import NewRows, Prepared
from farfield.studies.regression_fit import Fitted
from farfield.studies.regression_rows import QUANTILE

MOST_CURVES = 6
"""Features that are drawn at most."""

_REACH = (10.0, 100.0)  # standard deviations: a curve goes at least and at most so far
_POINTS = 161


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
    directions = np.repeat(np.eye(train.shape[1])[features], 2, axis=0)
    directions[::2] *= -1
    degrees, found = fitted.limits(directions)
    places = np.repeat(features, 2)
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


def curves(prepared: Prepared, new: NewRows, fitted: Fitted, with_std: bool) -> pd.DataFrame:
    """Predictions along the features in which the new rows are furthest from the training mean.

    Args:
        prepared: The training table.
        new: The new rows.
        fitted: The predictor.
        with_std: Whether to compute standard deviations.

    Returns:
        Feature, its value, prediction, lower and upper end of the 95 % interval.
    """
    features = numeric_features(prepared)
    furthest = np.abs(fitted.inputs.apply(new.features)).max(axis=0)
    chosen = sorted(sorted(features, key=lambda k: -furthest[k])[:MOST_CURVES])
    frames = [pd.DataFrame(columns=["feature", "value", "prediction", "lower", "upper"])]
    for k in chosen:
        reach = float(np.clip(1.2 * furthest[k], *_REACH))
        standard = np.zeros((_POINTS, len(furthest)))
        standard[:, k] = np.linspace(-reach, reach, _POINTS)
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
