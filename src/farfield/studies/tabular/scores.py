"""Scoring the models of a tabular comparison, and how far each row is from the training domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from farfield.data import Domains, Prepared
from farfield.studies.shared.scale import nearest_distances
from farfield.studies.shared.statistics import scores
from farfield.studies.tabular.models import Split


class Scores:
    """Scores and predictions of the models that are finished.

    Args:
        prepared: The table.
        domains: Its two sides.
        split_column: A column whose values go with the predictions.

    Attributes:
        metrics: A row for each model, seed and domain.
        predictions: A row for each model, seed and test row.
    """

    def __init__(self, prepared: Prepared, domains: Domains, split_column: str | None) -> None:
        self.metrics = pd.DataFrame()
        self.predictions = pd.DataFrame()
        self._prepared = prepared
        self._split_column = split_column
        self._distance = distances(prepared, domains)

    def add(self, model: str, splits: Sequence[Split], outcome: Sequence[np.ndarray]) -> None:
        """Score one model.

        Args:
            model: Its key.
            splits: The splits.
            outcome: For each split the predictions of its test rows, then of the rows outside.
        """
        rows, parts = [], []
        for split, predicted in zip(splits, outcome, strict=True):
            cut = len(split.test)
            for domain, own, values in (
                ("in", split.test, predicted[:cut]),
                ("out", split.outside, predicted[cut:]),
            ):
                target = self._prepared.target[own]
                rows.append(
                    {
                        "variant": model,
                        "seed": split.seed,
                        "domain": domain,
                        "rows": len(own),
                        **scores(target, values),
                    }
                )
                part = {
                    "variant": model,
                    "seed": split.seed,
                    "domain": domain,
                    "row": self._prepared.rows[own],
                    "target": target,
                    "prediction": values,
                    "distance": self._distance[own],
                }
                if self._split_column is not None:
                    part["split"] = self._prepared.frame[self._split_column].to_numpy()[own]
                parts.append(pd.DataFrame(part))
        self.metrics = pd.concat([self.metrics, pd.DataFrame(rows)], ignore_index=True)
        self.predictions = pd.concat([self.predictions, *parts], ignore_index=True)


def distances(prepared: Prepared, domains: Domains) -> np.ndarray:
    """Each row's distance from the training domain.

    Args:
        prepared: The table.
        domains: Its two sides.

    Returns:
        The Euclidean distance to the nearest row of the training domain, in standard deviations
        of that domain's features (constant features in their own units); 0 inside.
    """
    found = np.zeros(len(prepared.target))
    inside, outside = (prepared.features[rows] for rows in (domains.inside, domains.outside))
    found[domains.outside] = nearest_distances(outside, inside)
    return found
