"""Columns in units of their own spread, and distances in these units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree

from farfield.studies.shared.statistics import spread


@dataclass(frozen=True)
class Scale:
    """Brings columns to mean 0 and standard deviation 1 and back; constant ones are shifted.

    Attributes:
        shift: What is taken off each column.
        unit: What it is divided by then.
    """

    shift: Float[np.ndarray, " d"]
    unit: Float[np.ndarray, " d"]

    @classmethod
    def of(cls, values: Float[np.ndarray, "n d"], wanted: bool = True) -> Scale:
        """The scale of these rows; one that changes nothing if it is not wanted."""
        if not wanted:
            return cls(np.zeros(values.shape[1]), np.ones(values.shape[1]))
        unit = spread(values)
        # The mean of equal numbers may differ from them in the last digit.
        shift = np.where(unit > 0, values.mean(axis=0), values[0])
        return cls(shift, np.where(unit > 0, unit, 1.0))

    def apply(self, values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Rows in units of the scale."""
        standard: np.ndarray = (values - self.shift) / self.unit
        return standard

    def undo(self, values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Rows as they were."""
        original: np.ndarray = values * self.unit + self.shift
        return original


def nearest_distances(
    points: Float[np.ndarray, "m d"], inside: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, " m"]:
    """How far each point is from the nearest of some rows.

    Args:
        points: The points.
        inside: The rows.

    Returns:
        Euclidean distances in standard deviations of the rows' columns (constant columns in
        their own units).
    """
    unit = Scale.of(inside).unit
    tree = KDTree(inside / unit)
    nearest: np.ndarray = tree.query(points / unit, workers=torch.get_num_threads())[0]
    return nearest
