"""Predictors: kernel regression, gradient flow, and what bounds them everywhere."""

from farfield.regression.gradient_flow import GradientFlow
from farfield.regression.kernel_regression import KernelFit, KernelRegression

__all__ = ["GradientFlow", "KernelFit", "KernelRegression"]
