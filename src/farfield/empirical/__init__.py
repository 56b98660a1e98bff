"""The tangent kernel of a finite network: exact, for any module, without Jacobians."""

from farfield.empirical.kernel import EmpiricalNTK, EmpiricalNTKs, empirical_ntk

__all__ = ["EmpiricalNTK", "EmpiricalNTKs", "empirical_ntk"]
