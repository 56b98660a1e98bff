"""The tangent kernel of a finite network: exact, for any module, without Jacobians."""

from farfield.empirical.expansion import TaylorModel, linearize, taylor_expand
from farfield.empirical.kernel import Contracted, EmpiricalNTK, EmpiricalNTKs, empirical_ntk
from farfield.empirical.monitor import NTKMonitor
from farfield.empirical.operator import Estimate, NTKOperator, ntk_operator

__all__ = [
    "Contracted",
    "EmpiricalNTK",
    "EmpiricalNTKs",
    "Estimate",
    "NTKMonitor",
    "NTKOperator",
    "TaylorModel",
    "empirical_ntk",
    "linearize",
    "ntk_operator",
    "taylor_expand",
]
