"""The tangent kernel of deep networks while they train."""

from farfield.studies.dynamics.study import QUICK, Result, Settings, run

__all__ = ["QUICK", "Result", "Settings", "run"]
