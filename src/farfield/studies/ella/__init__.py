"""Linearised Laplace posteriors of trained networks, measured."""

from farfield.studies.ella.study import QUICK, Result, Settings, run

__all__ = ["QUICK", "Result", "Settings", "run"]
