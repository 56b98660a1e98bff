"""All studies of one paper at once."""

from farfield.studies.paper.study import Inputs, Result, Settings, run

__all__ = ["Inputs", "Result", "Settings", "run"]
