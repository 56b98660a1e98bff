"""How sure a trained network is of what it says: its linearised Laplace posterior."""

from farfield.uncertainty.laplace import LinearizedLaplace
from farfield.uncertainty.prediction import LaplacePrediction

__all__ = ["LaplacePrediction", "LinearizedLaplace"]
