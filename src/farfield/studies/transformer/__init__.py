"""A decoder that goes on beyond its training."""

from farfield.studies.transformer.study import QUICK, Result, Settings, run

__all__ = ["QUICK", "Result", "Settings", "run"]
