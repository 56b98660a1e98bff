"""An infinitely wide network for the new rows of a table."""

from farfield.studies.regression.study import Result, Settings, run

__all__ = ["Result", "Settings", "run"]
