"""The variance of trained networks over initialisations."""

from farfield.studies.variance.study import QUICK, Result, Settings, run

__all__ = ["QUICK", "Result", "Settings", "run"]
