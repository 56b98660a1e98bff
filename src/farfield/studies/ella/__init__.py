"""Linearised Laplace posteriors of trained networks, measured."""

from farfield.studies.ella.study import METHODS, QUICK, Result, Settings, run

__all__ = ["METHODS", "QUICK", "Result", "Settings", "run"]
