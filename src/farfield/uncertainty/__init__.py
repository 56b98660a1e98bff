"""How sure a trained network is of what it says: its linearised Laplace posterior."""

from farfield.uncertainty.laplace import LaplacePrediction, LinearizedLaplace

__all__ = ["LaplacePrediction", "LinearizedLaplace"]
