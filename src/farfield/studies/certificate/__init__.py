"""The certificate of a user's own network."""

from farfield.studies.certificate.study import Result, Settings, as_json, finite_or_none, run

__all__ = ["Result", "Settings", "as_json", "finite_or_none", "run"]
