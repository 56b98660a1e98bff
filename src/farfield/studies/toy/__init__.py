"""Three functions on a line."""

from farfield.studies.toy.study import FUNCTIONS, QUICK, Result, Settings, run

__all__ = ["FUNCTIONS", "QUICK", "Result", "Settings", "run"]
