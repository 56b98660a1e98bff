"""What the paper says of heads on a frozen backbone, beside what was found."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from farfield.studies.shared.claims import Claim
from farfield.studies.shared.published_scores import (
    NORMED,
    PLACES,
    Published,
    beside,
    r2_scores,
    ranking,
    unrun,
)

if TYPE_CHECKING:
    from farfield.studies.heads.study import Result

TABLE, FIGURE = "Table 2", "Fig. 4"

PUBLISHED: Published = {
    ("every", "out"): "0.42 ± 0.05",
    ("first", "out"): "0.47 ± 0.03",
    ("last", "out"): "0.36 ± 0.04",
    ("standard", "out"): "0.27 ± 0.03",
    ("every", "in"): "0.66 ± 0.01",
    ("first", "in"): "0.68 ± 0.01",
    ("last", "in"): "0.66 ± 0.01",
    ("standard", "in"): "0.66 ± 0.01",
}
"""R2 of faces in Table 2 of the paper by (head, domain): mean and 95 % interval over 250 seeds."""

_SHORT = "faces: 0.36 to 0.47 against 0.27 ± 0.03"
_SHORT_INSIDE = "faces: 0.66 to 0.68 against 0.66 ± 0.01"
_COST = "In domain a head with LayerNorm predicts no worse than the standard one."
_FAR = (
    "The less an image's features are like those of training, the larger is the error of the "
    "standard head; heads with LayerNorm have smaller errors there."
)
_PART = 0.2  # of the images: the least and the most similar ones


def claims(result: Result) -> tuple[Claim, ...]:
    """The paper's claims beside what was found.

    Args:
        result: The comparison.

    Returns:
        Claims; published numbers are compared if these are the published images and backbone.
    """
    framing, scores = result.framing, r2_scores(result.metrics)
    why = (
        "LayerNorm bounds the head over all features; the certificates of the page say how "
        "closely, and the largest predictions are in the table."
    )
    numbers = (
        [beside(framing.table, scores, framing.published, domain) for domain in ("out", "in")]
        if framing.published
        else [_costs_nothing(result)]
    )
    return (ranking(framing.table, scores, _SHORT, why), *numbers, _distance(result))


def not_run(
    why: str, table: str = TABLE, figure: str = FIGURE, published: Published = PUBLISHED
) -> tuple[Claim, ...]:
    """The claims where there are no images.

    Args:
        why: Why not, and what to do.
        table: What the paper calls the table.
        figure: What it calls the figure.
        published: Published R2, if they are of the same images.

    Returns:
        The same claims, not run.
    """
    numbers = (
        [beside(table, {}, published, domain) for domain in ("out", "in")]
        if published
        else [unrun(f"{table}, {PLACES['in']}", _COST, _SHORT_INSIDE)]
    )
    rows = (ranking(table, {}, _SHORT, ""), *numbers, unrun(figure, _FAR, "a figure"))
    return tuple(replace(row, why=why) for row in rows)


def _costs_nothing(result: Result) -> Claim:
    """In domain, where the published numbers are those of other images."""
    item = f"{result.framing.table}, {PLACES['in']}"
    scores = r2_scores(result.metrics)
    standard = scores["standard", "in"]
    normed = {key: scores[key, "in"] for key in NORMED if (key, "in") in scores}
    worse = [key for key, v in normed.items() if v.value + v.half_width < standard.value]
    return Claim(
        item,
        _COST,
        _SHORT_INSIDE,
        f"R2 {', '.join(f'{value} ({key})' for key, value in normed.items())} against {standard}",
        not worse,
        "No interval lies below the standard head's mean."
        if not worse
        else f"Below the standard head's mean: {', '.join(worse)}.",
    )


def _distance(result: Result) -> Claim:
    near, far = distance_errors(result)
    normed = [key for key in NORMED if key in far]
    grows = far["standard"] > near["standard"]
    lower = all(far[key] < far["standard"] for key in normed)
    return Claim(
        result.framing.figure,
        _FAR,
        "a figure",
        "mean |error| in the fifth least like training / most like it: "
        + ", ".join(f"{far[key]:.3g} / {near[key]:.3g} ({key})" for key in far.index),
        bool(grows and lower),
        f"The standard head's error {'grows' if grows else 'does not grow'} with the distance; "
        f"there it is {'above' if lower else 'not above'} that of every head with LayerNorm.",
    )


def distance_errors(result: Result) -> tuple[pd.Series, pd.Series]:
    """Mean error of each head out of domain, near the training features and far from them.

    Args:
        result: The comparison.

    Returns:
        By head: of the images most like those of training, and of those least like them.
    """
    outside = result.predictions.query("domain == 'out'")
    low, high = np.quantile(outside["similarity"], [_PART, 1.0 - _PART])
    error = outside.assign(error=(outside["prediction"] - outside["target"]).abs())
    parts = (error[error["similarity"] >= high], error[error["similarity"] <= low])
    near, far = (part.groupby("variant", sort=False)["error"].mean() for part in parts)
    return near, far
