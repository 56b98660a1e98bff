"""How close ELLA's kernel and covariances come to the exact ones as M and K grow."""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.empirical import empirical_ntk
from farfield.studies.ella.tasks import TEST, Task
from farfield.studies.shared.workspace import Workspace
from farfield.uncertainty import LinearizedLaplace
from farfield.uncertainty.network import network_of
from farfield.uncertainty.nystrom import NystromPosterior

if TYPE_CHECKING:
    from farfield.studies.ella.study import Settings

_BUDGET = 2**30  # bytes


def part(workspace: Workspace, network: nn.Module, task: Task, settings: Settings) -> pd.DataFrame:
    """Errors of the kernel and of predictive covariances; a resumed run reads them.

    Args:
        workspace: Keeps them.
        network: A trained network.
        task: What it was trained on.
        settings: M, K and numbers of samples.

    Returns:
        A row for each pair of M and K at most M: ``task``, ``inducing``, ``features``,
        ``kernel_error``, ``covariance_error``.
    """
    return workspace.part(f"{task.name}-ablation", lambda: _ablation(network, task, settings))


def _ablation(network: nn.Module, task: Task, settings: Settings) -> pd.DataFrame:
    x, y = (values[: settings.ablation_rows] for values in task.train)
    points = task.domains[TEST][0][: settings.ablation_points]
    # In float64, as the exact posterior is, so that both errors are those of the approximation.
    double = copy.deepcopy(network).double()
    x, points = x.double(), points.double()
    precision = settings.prior_precision
    exact = LinearizedLaplace(double, task.likelihood, precision).fit((x, y))
    _, expected = exact.predict_outputs(points)
    kernel = _square(empirical_ntk(double, "full")(points).detach())
    rows = []
    for inducing, features in itertools.product(settings.ablation_sizes, repeat=2):
        if features > inducing or inducing > len(x) * task.outputs:
            continue
        ella = LinearizedLaplace(
            double,
            task.likelihood,
            precision,
            method="nystrom",
            inducing=inducing,
            features=features,
        ).fit((x, y))
        _, found = ella.predict_outputs(points)
        phi = _features(ella, double, points)
        rows.append(
            {
                "task": task.name,
                "inducing": inducing,
                "features": features,
                "kernel_error": relative(phi @ phi.mT, kernel),
                "covariance_error": float((_norms(found - expected) / _norms(expected)).mean()),
            }
        )
    return pd.DataFrame(rows)


def _features(
    ella: LinearizedLaplace, network: nn.Module, points: Tensor
) -> Float[Tensor, "rows k"]:
    """``phi``, whose products are ELLA's kernel."""
    posterior = ella.posterior
    assert isinstance(posterior, NystromPosterior)
    return posterior.features(network_of(network, None, None, _BUDGET), points).flatten(0, 1)


def relative(found: Float[Tensor, "n n"], expected: Float[Tensor, "n n"]) -> float:
    """``|A - B| / |B|`` in the spectral norm.

    Args:
        found: A.
        expected: B.

    Returns:
        The relative error.
    """
    norm = torch.linalg.matrix_norm
    return float(norm(found - expected, 2) / norm(expected, 2))


def _norms(covariances: Float[Tensor, "n o o"]) -> Float[Tensor, " n"]:
    found: Tensor = torch.linalg.matrix_norm(covariances)
    return found


def _square(kernel: Float[Tensor, "n o m p"]) -> Float[Tensor, "rows columns"]:
    return kernel.flatten(2).flatten(0, 1)
