"""Predictors: kernel regression, gradient flow, and what bounds them everywhere."""

from farfield.regression.bounds import BoundForms, FitCertificate, certify_fit
from farfield.regression.certify import certify
from farfield.regression.cholesky import Cholesky
from farfield.regression.conjugate_gradients import ConjugateGradients, ConjugateReport
from farfield.regression.costs import CostModel
from farfield.regression.gradient_flow import GradientFlow
from farfield.regression.kernel_regression import KernelFit, KernelRegression
from farfield.regression.nystrom import Nystrom
from farfield.regression.problem import Problem, Solver
from farfield.regression.ridge_path import RidgePath
from farfield.regression.solution import Solution, SolverReport

__all__ = [
    "BoundForms",
    "Cholesky",
    "ConjugateGradients",
    "ConjugateReport",
    "CostModel",
    "FitCertificate",
    "GradientFlow",
    "KernelFit",
    "KernelRegression",
    "Nystrom",
    "Problem",
    "RidgePath",
    "Solution",
    "Solver",
    "SolverReport",
    "certify",
    "certify_fit",
]
