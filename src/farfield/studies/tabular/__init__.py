"""Networks on a table, inside the training domain and out of it."""

from farfield.studies.tabular.study import QUICK, Framing, Result, Settings, domains_of, run

__all__ = ["QUICK", "Framing", "Result", "Settings", "domains_of", "run"]
