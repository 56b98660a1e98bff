"""The diagnosis of a user's own network."""

from farfield.studies.diagnosis.study import Result, Settings, run

__all__ = ["Result", "Settings", "run"]
