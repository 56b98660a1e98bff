"""Dispersion of the tangent kernel over random networks."""

from farfield.studies.dispersion.study import QUICK, Result, Settings, run

__all__ = ["QUICK", "Result", "Settings", "run"]
