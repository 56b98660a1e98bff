"""Rules: per-sample gradients of the parameters at each kind of node."""

from farfield.empirical.rules import convolution, linear, lookup, norms, pointwise
from farfield.empirical.rules.table import RULES, Case, find_rule

__all__ = ["RULES", "Case", "convolution", "find_rule", "linear", "lookup", "norms", "pointwise"]
