"""farfield tells how a neural network behaves far from its training data.

Public names:
    mlp: A multilayer perceptron with a chosen placement of normalisation.
    gaussian_init_: Draws a network's weights and remembers their variances.
    init_variance: The variances that one layer was drawn with.
    infinite_width: The exact kernels of a model in the limit of infinite width.
    monte_carlo: The same kernels estimated from finite networks.
    empirical_ntk: The tangent kernel of a finite network.
    ntk_operator: The same as a linear operator, never formed.
    linearize: A network that is exactly affine in its parameters.
    taylor_expand: Its Taylor polynomial of any degree.
    NTKMonitor: The tangent kernel of a probe set, watched during training.
    KernelRegression: Predictions of converged networks of infinite width, with uncertainty.
    Cholesky: A solver of it: the exact one, in the memory of one matrix.
    ConjugateGradients: A solver of it for any number of points.
    Nystrom: A solver of it: the best function on a few centres, for any number of rows.
    LinearizedLaplace: How sure a trained network is of its outputs.
    GradientFlow: Their predictions at any time of training.
    NTKRegressor: Kernel regression as a scikit-learn estimator.
    diagnose: Whether tangent-kernel theory describes a network of finite width and depth.
    certify: How large the output of a network or a fitted predictor can get, over every input.
    stabilize: A copy of a network with LayerNorms inserted.
    Kernel: A matrix of pair values between two batches, computed tile by tile.
    theory: What is known of random networks before any is drawn.
    scale: Kernels and regressions larger than memory, as resumable jobs.
    training: Many networks trained at once.
    data: Tables: loading, preparing, splitting.
    studies: Published experiments, rerun.
    report: Results as a folder with figures and a self-contained page.
    errors: Typed errors and warnings.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farfield import data, errors, report, scale, studies, theory, training
    from farfield.diagnosis.examine import diagnose
    from farfield.empirical import (
        NTKMonitor,
        empirical_ntk,
        linearize,
        ntk_operator,
        taylor_expand,
    )
    from farfield.growth import stabilize
    from farfield.infinite import infinite_width, monte_carlo
    from farfield.kernel import Kernel
    from farfield.networks import gaussian_init_, init_variance, mlp
    from farfield.regression import (
        Cholesky,
        ConjugateGradients,
        GradientFlow,
        KernelRegression,
        Nystrom,
    )
    from farfield.regression.certify import certify
    from farfield.regression.estimator import NTKRegressor
    from farfield.uncertainty import LinearizedLaplace

__version__ = "0.1.0"

_ROOMS = ("data", "errors", "report", "scale", "studies", "theory", "training")
_NAMES = {
    "Cholesky": "farfield.regression",
    "ConjugateGradients": "farfield.regression",
    "GradientFlow": "farfield.regression",
    "Kernel": "farfield.kernel",
    "LinearizedLaplace": "farfield.uncertainty",
    "NTKMonitor": "farfield.empirical",
    "empirical_ntk": "farfield.empirical",
    "KernelRegression": "farfield.regression",
    "Nystrom": "farfield.regression",
    "NTKRegressor": "farfield.regression.estimator",
    "certify": "farfield.regression",
    "diagnose": "farfield.diagnosis",
    "gaussian_init_": "farfield.networks",
    "infinite_width": "farfield.infinite",
    "init_variance": "farfield.networks",
    "linearize": "farfield.empirical",
    "mlp": "farfield.networks",
    "monte_carlo": "farfield.infinite",
    "ntk_operator": "farfield.empirical",
    "taylor_expand": "farfield.empirical",
    "stabilize": "farfield.growth",
}

__all__ = [
    "Cholesky",
    "ConjugateGradients",
    "GradientFlow",
    "Kernel",
    "KernelRegression",
    "LinearizedLaplace",
    "NTKMonitor",
    "NTKRegressor",
    "Nystrom",
    "certify",
    "data",
    "diagnose",
    "empirical_ntk",
    "errors",
    "gaussian_init_",
    "infinite_width",
    "init_variance",
    "linearize",
    "mlp",
    "monte_carlo",
    "ntk_operator",
    "report",
    "scale",
    "stabilize",
    "studies",
    "taylor_expand",
    "theory",
    "training",
]


def __getattr__(name: str) -> object:
    # Loaded on first use, so that `farfield --help` does not wait for PyTorch.
    if name in _ROOMS:
        return importlib.import_module(f"farfield.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'farfield' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
