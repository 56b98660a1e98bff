"""The rows that are predicted: tables of predictions, marks of what is far, and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from farfield.data import NewRows, Prepared
from farfield.studies.regression.fit import Fitted
from farfield.studies.shared.scale import nearest_distances
from farfield.studies.shared.statistics import scores

if TYPE_CHECKING:
    from collections.abc import Iterator

QUANTILE = 1.959963984540054
"""Of the normal law: 95 % lie within so many standard deviations."""

_TILE = 1024  # rows that are predicted at once, between two steps of the progress bar


def predicted(fitted: Fitted, features: np.ndarray, with_std: bool) -> Iterator[np.ndarray]:
    """Predictions and standard deviations, (2, rows), some rows at a time."""
    for start in range(0, len(features), _TILE):
        yield np.stack(fitted.predict(features[start : start + _TILE], with_std))


def table(
    new: NewRows, prepared: Prepared, fitted: Fitted, outcome: Float[np.ndarray, "2 m"]
) -> pd.DataFrame:
    """A row for each row of the new table, with what is known of it.

    Args:
        new: The rows.
        prepared: The training table.
        fitted: The predictor.
        outcome: Predictions and standard deviations.

    Returns:
        Columns as docs/regression.md tells; without numbers where a feature is missing.
    """
    mean, std = outcome
    train = prepared.features[fitted.rows]
    half = QUANTILE * np.hypot(std, fitted.chosen.error)
    degrees, limits = fitted.limits(fitted.inputs.apply(new.features))
    by, notes = _beyond(new, prepared, fitted)
    columns: dict[str, object] = {"row": new.rows}
    if new.target is not None:
        columns["target"] = new.target
    columns |= {
        "prediction": mean,
        "std": std,
        "lower": mean - half,
        "upper": mean + half,
        "outside": [bool(note) for note in notes],
        "outside_by": by,
        "distance": nearest_distances(new.features, train),
        "limit": limits,
        "limit_degree": degrees,
        "note": notes,
    }
    known = pd.DataFrame(columns)
    if not new.missing:
        return known
    left = pd.DataFrame(
        {
            "row": list(new.missing),
            "note": [f"no prediction: {names} missing" for names in new.missing.values()],
        }
    )
    whole = known.set_index("row").reindex(range(new.total))
    whole["note"] = whole["note"].fillna(left.set_index("row")["note"])
    return whole.reset_index(names="row")


def _beyond(
    new: NewRows, prepared: Prepared, fitted: Fitted
) -> tuple[Float[np.ndarray, " m"], list[str]]:
    """By how much each row leaves the ranges of training, and where, in words."""
    train = prepared.features[fitted.rows]
    unit = fitted.inputs.unit
    over = (new.features - train.max(axis=0)) / unit
    under = (train.min(axis=0) - new.features) / unit
    # A 0/1 column is left only by a value that none of the rows that trained had.
    under[:, [name not in prepared.frame.columns for name in prepared.names]] = 0.0
    beyond = np.maximum(over, under)
    parts: list[list[str]] = [[] for _ in new.rows]
    for row, column in zip(*np.nonzero(beyond > 0), strict=True):
        side = "above" if over[row, column] > 0 else "below"
        parts[row].append(f"{prepared.names[column]} {beyond[row, column]:.2g} sd {side}")
    for column, mask in new.unseen.items():
        for row in np.flatnonzero(mask):
            parts[row].append(f"{column} is {new.frame[column].iloc[row]!r}, not in training")
    return np.maximum(beyond.max(axis=1), 0.0), ["; ".join(part) for part in parts]


def metrics(predictions: pd.DataFrame) -> pd.DataFrame:
    """Scores of all rows, of those inside the training ranges and of those outside.

    Args:
        predictions: What :func:`table` returns.

    Returns:
        A row for each part that there is: number of rows, and how large predictions are; R2, RMSE,
        MAE and the coverage of the 95 % intervals where targets are known.
    """
    known = predictions[predictions["prediction"].notna()]
    outside = known["outside"].to_numpy(dtype=bool)
    rows = []
    for part, mask in (("all", np.ones_like(outside)), ("inside", ~outside), ("outside", outside)):
        if mask.any():
            rows.append({"part": part, **_scores(known[mask])})
    return pd.DataFrame(rows)


def _scores(part: pd.DataFrame) -> dict[str, float | int]:
    found: dict[str, float | int] = {"rows": len(part)}
    if "target" in part and part["target"].notna().any():
        scored = part[part["target"].notna()]
        target, mean = (scored[name].to_numpy(dtype=float) for name in ("target", "prediction"))
        found |= {"scored": len(scored), **scores(target, mean)}
        covered = _covered(scored)
        if covered is not None:
            found["coverage"] = float(covered.mean())
    found["least_prediction"] = float(part["prediction"].min())
    found["largest_prediction"] = float(part["prediction"].max())
    return found


def _covered(scored: pd.DataFrame) -> Bool[np.ndarray, " m"] | None:
    """Which targets lie in their intervals, if there are intervals."""
    if scored["lower"].isna().all():
        return None
    between: np.ndarray = scored["target"].between(scored["lower"], scored["upper"]).to_numpy()
    return between
