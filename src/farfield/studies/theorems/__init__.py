"""The theorems in numbers."""

from farfield.studies.theorems.study import QUICK, Result, Settings, run

__all__ = ["QUICK", "Result", "Settings", "run"]
