"""Tangent kernels on a square."""

from farfield.studies.heatmaps.study import QUICK, Result, Settings, run

__all__ = ["QUICK", "Result", "Settings", "run"]
