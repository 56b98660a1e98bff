"""Predictors: kernel regression, gradient flow, and what bounds them everywhere."""

from farfield.regression.bounds import BoundForms, FitCertificate, certify_fit
from farfield.regression.certify import certify
from farfield.regression.gradient_flow import GradientFlow
from farfield.regression.kernel_regression import KernelFit, KernelRegression
from farfield.regression.ridge_path import RidgePath

__all__ = [
    "BoundForms",
    "FitCertificate",
    "GradientFlow",
    "KernelFit",
    "KernelRegression",
    "RidgePath",
    "certify",
    "certify_fit",
]
