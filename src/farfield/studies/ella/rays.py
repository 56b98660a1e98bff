"""Standard deviations and alarms along rays from the training data: what LayerNorm does to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.infinite import infinite_width
from farfield.regression import KernelRegression
from farfield.studies.ella.networks import protein_network
from farfield.studies.ella.tasks import Task
from farfield.studies.shared.workspace import Workspace
from farfield.uncertainty import LinearizedLaplace

if TYPE_CHECKING:
    from farfield.studies.ella.study import Settings

NAMES = {False: "without LayerNorm", True: "LayerNorm first"}
DISTANCES = np.logspace(-1.0, 3.0, 25)
"""Distances along the rays, in units of the typical distance of training points from their mean."""

_RAYS = 5


def part(
    workspace: Workspace, networks: Mapping[bool, nn.Module], task: Task, settings: Settings
) -> pd.DataFrame:
    """Follow rays with the posteriors of some networks; a resumed run reads the result.

    Args:
        workspace: Keeps it.
        networks: Trained networks, by whether a LayerNorm follows their first layer.
        task: The proteins that they were trained on.
        settings: How many rows the posteriors see.

    Returns:
        For each network, kind and distance: the mean over rays of the standard deviation of the
        output, without noise; for the kind ``"novelty"``, of the alarm.
    """

    def compute() -> pd.DataFrame:
        found = [
            _follow(network, norm, task, settings).assign(network=NAMES[norm])
            for norm, network in networks.items()
        ]
        return pd.concat(found, ignore_index=True)

    return workspace.part("rays", compute)


def points(features: int) -> Float[Tensor, "rays distances features"]:
    """Where standard deviations are computed: standardised inputs have length sqrt(features).

    Args:
        features: Number of inputs.

    Returns:
        In float64.
    """
    generator = torch.Generator().manual_seed(0)
    way = torch.randn(_RAYS, 1, features, generator=generator, dtype=torch.float64)
    way = way / way.norm(dim=2, keepdim=True) * features**0.5
    found: Tensor = way * torch.from_numpy(DISTANCES)[:, None]
    return found


def _follow(network: nn.Module, norm: bool, task: Task, settings: Settings) -> pd.DataFrame:
    x, y = (values[: settings.ray_rows] for values in task.train)
    rays = points(x.shape[1])
    along = rays.flatten(0, 1)
    exact = LinearizedLaplace(network, "regression").fit((x, y))
    exact.tune(by="validation", validation=task.validation)
    ella = LinearizedLaplace(
        network,
        "regression",
        exact.prior_precision,
        exact.noise_var,
        method="nystrom",
        inducing=min(settings.inducing, len(x)),
        features=settings.features,
    ).fit((x, y))
    # The same parametrisation, prior and noise: only the kernel is that of infinite width.
    fresh = protein_network(x.shape[1], norm, settings, 0)
    limit = infinite_width(fresh, parameterization="standard")
    ridge = exact.prior_precision * exact.noise_var
    fit = KernelRegression(limit.ntk, ridge=ridge).fit(x.double(), y.double())
    _, spread = fit.predict(along, return_std=True)
    values = {
        "exact": _std(exact, along.float()),
        "ELLA": _std(ella, along.float()),
        "infinite width": spread.flatten() / exact.prior_precision**0.5,
        "novelty": exact.novelty(along.float()),
    }
    frames = [
        pd.DataFrame(
            {
                "kind": kind,
                "distance": DISTANCES,
                "value": value.double().view(rays.shape[:2]).mean(0).numpy(),
            }
        )
        for kind, value in values.items()
    ]
    return pd.concat(frames, ignore_index=True)


def _std(posterior: LinearizedLaplace, x: Tensor) -> Tensor:
    _, covariance = posterior.predict_outputs(x)
    return covariance[:, 0, 0].clamp_min(0.0).sqrt()
