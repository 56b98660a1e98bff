"""Heads on the features of a frozen backbone."""

from farfield.studies.heads.claims import not_run
from farfield.studies.heads.study import Bank, Framing, Result, Settings, run, split

__all__ = ["Bank", "Framing", "Result", "Settings", "not_run", "run", "split"]
