"""What theory says of the toy study: exact predictions of infinite width, limits and bounds."""

from __future__ import annotations

import math
import warnings

import pandas as pd
import torch
from torch import Tensor, nn

from farfield.errors import ConditioningWarning, SingularKernelError
from farfield.infinite import infinite_width
from farfield.regression import KernelFit, KernelRegression, certify

COLUMNS = ["function", "variant", "quantity", "seed", "x", "value"]
_NONE = -1  # seed of what belongs to no single network


def exact(
    network: nn.Module,
    variant: str,
    x: Tensor,
    targets: dict[str, Tensor],
    grid: Tensor,
    ridge: float,
) -> pd.DataFrame:
    """The converged network of infinite width, its limits at both ends, and its bound.

    Args:
        network: Its architecture, with the variances that it was drawn with.
        variant: Its key.
        x: Training inputs.
        targets: Targets of each function.
        grid: Where to predict.
        ridge: Added to the kernel matrix if that cannot be inverted.

    Returns:
        Rows of ``exact`` at each x, ``limit_left`` and ``limit_right`` (infinite if it grows),
        ``certificate`` (likewise), ``kernel_bound`` and ``ridge``.

    Raises:
        UnsupportedOperation: The network has no infinite-width limit, as with BatchNorm.
    """
    kernel = infinite_width(network.double()).ntk
    frames = []
    for name, y in targets.items():
        # The smallest eigenvalue is small on a line, as the theorems' study shows.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConditioningWarning)
            fit, used = _fit(KernelRegression(kernel), x.double(), y.double(), ridge)
            cert = certify(fit)
        ends = [cert.along(torch.tensor([sign], dtype=torch.float64)) for sign in (-1.0, 1.0)]
        limits = [
            math.copysign(math.inf, float(end.coefficient))
            if end.degree
            else float(end.coefficient)
            for end in ends
        ]
        rows: list[tuple[object, ...]] = [
            (name, variant, "exact", _NONE, at, value)
            for at, value in zip(
                grid[:, 0].tolist(), fit.predict(grid.double()).flatten().tolist(), strict=True
            )
        ]
        found = {
            "limit_left": limits[0],
            "limit_right": limits[1],
            "certificate": cert.bound.largest,
            "kernel_bound": cert.kernel_bound.value,
            "ridge": used,
        }
        rows += [(name, variant, key, _NONE, math.nan, value) for key, value in found.items()]
        frames.append(pd.DataFrame(rows, columns=COLUMNS))
    return pd.concat(frames, ignore_index=True)


def proven(networks: dict[tuple[str, int], nn.Module], variant: str) -> pd.DataFrame:
    """The certificates of trained networks.

    Args:
        networks: Each by its function and seed.
        variant: Their key.

    Returns:
        Rows of ``proven`` (infinite if there is no bound), ``largest_found`` and ``degree``.
    """
    rows: list[tuple[object, ...]] = []
    for (name, seed), network in networks.items():
        cert = certify(network.cpu().double().eval())
        found = {
            "proven": cert.bound.largest,
            "largest_found": cert.worst_found.value,
            "degree": cert.growth.degree,
        }
        rows += [(name, variant, key, seed, math.nan, value) for key, value in found.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def trained(
    predictions: Tensor, grid: Tensor, members: list[tuple[str, int]], variant: str
) -> pd.DataFrame:
    """Predictions of trained networks on the wide grid, in the same form.

    Args:
        predictions: (networks, points).
        grid: The points.
        members: Function and seed of each network.
        variant: Their key.

    Returns:
        Rows of ``trained`` at each x.
    """
    x = grid[:, 0].tolist()
    frames = [
        pd.DataFrame(
            {
                "function": name,
                "variant": variant,
                "quantity": "trained",
                "seed": seed,
                "x": x,
                "value": values.tolist(),
            }
        )
        for (name, seed), values in zip(members, predictions, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def _fit(
    regression: KernelRegression, x: Tensor, y: Tensor, ridge: float
) -> tuple[KernelFit, float]:
    """Without a ridge where that is possible, as the theory has it."""
    try:
        return regression.fit(x, y), 0.0
    except SingularKernelError:
        return KernelRegression(regression.kernel, ridge).fit(x, y), ridge
