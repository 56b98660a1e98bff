"""More norms and placements than the paper."""

from farfield.studies.placements.claims import not_run
from farfield.studies.placements.study import QUICK, Result, Settings, run

__all__ = ["QUICK", "Result", "Settings", "not_run", "run"]
