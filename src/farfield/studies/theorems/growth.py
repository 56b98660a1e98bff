"""Theorem 3.1: without LayerNorm there are training sets whose prediction grows without bound."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor, nn

from farfield.infinite import infinite_width
from farfield.kernel import Kernel
from farfield.regression import KernelRegression, certify
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.theory_networks import theory_network
from farfield.studies.theorems.measured import Notes, by_case

ITEM = "Theorem 3.1"
_SCALES = [10.0**k for k in range(7)]
_DEPTHS = (1, 2, 3)


class SquaredReLU(nn.Module):
    """max(u, 0) squared: positively homogeneous of degree 2."""

    def forward(self, u: Tensor) -> Tensor:
        """The activation."""
        return torch.relu(u) ** 2


def measure() -> pd.DataFrame:
    """Predictions along a ray, degrees of kernels, and a training set without growth.

    Returns:
        The numbers.
    """
    notes = Notes(ITEM)
    generator = torch.Generator().manual_seed(0)
    # All inner products of inputs are positive, and no target is 0: the theorem's construction.
    x = 0.5 + 1.5 * torch.rand(5, 2, dtype=torch.float64, generator=generator)
    y = 0.5 + torch.rand(5, dtype=torch.float64, generator=generator)
    ray = torch.ones(1, 2, dtype=torch.float64) / math.sqrt(2.0)
    for depth in _DEPTHS:
        kernel = infinite_width(theory_network(2, (1,) * depth, None)).ntk
        fit = KernelRegression(kernel).fit(x, y)
        cert = certify(fit)
        along = cert.along(ray[0])
        case = f"{depth} hidden"
        values = fit.predict(torch.cat([scale * ray for scale in _SCALES]))
        notes.curve(case, _SCALES, values.tolist())
        notes.add(
            case,
            unbounded=cert.bounded is False,
            degree=along.degree,
            coefficient=float(along.coefficient),
            farthest=float(values[-1]),
        )
        for power, activation in ((1, nn.ReLU), (2, SquaredReLU)):
            network = theory_network(2, (1,) * depth, None, activation=activation)
            degree, limit = _degree(infinite_width(network).ntk, ray, x)
            notes.add(f"n = {power}, {depth} hidden", kernel_degree=degree, kernel_limit=limit)
    notes.add("targets without growth", **_without_growth())
    return notes.frame()


def _degree(kernel: Kernel, ray: Tensor, x: Tensor) -> tuple[float, float]:
    """The degree of k(t ray, x) in t, and the least of k / t^degree over x."""
    near, far = (kernel(scale * ray, x)[0] for scale in (1e6, 1e7))
    degree = float((far / near).log10().mean())
    return degree, float((far / 10.0 ** (7 * round(degree))).min())


def _without_growth() -> dict[str, float]:
    """Targets that are not 0 and whose prediction stays bounded at both ends of a line."""
    kernel = infinite_width(theory_network(1, (1, 1), None)).ntk
    x = torch.linspace(-3.0, 3.0, 5, dtype=torch.float64)[:, None]
    ends = torch.tensor([[1e12], [-1e12]], dtype=torch.float64)
    slopes = kernel(ends, x) / 1e12 @ torch.linalg.inv(kernel(x))  # of the targets, at both ends
    y = torch.linalg.svd(slopes).Vh[-1]
    fit = KernelRegression(kernel).fit(x, y)
    far = torch.tensor([[1e2], [1e6], [-1e2], [-1e6]], dtype=torch.float64)
    values = fit.predict(far).abs()
    return {"largest_target": float(y.abs().max()), "largest_far": float(values.max())}


def claims(frame: pd.DataFrame) -> tuple[Claim, ...]:
    """The theorem's claims beside the numbers.

    Args:
        frame: What :func:`measure` returned.

    Returns:
        Claims.
    """
    table = by_case(frame)
    fits = table.loc[[f"{depth} hidden" for depth in _DEPTHS]]
    wanted = {f"n = {n}, {L} hidden": float(n**L) for n in (1, 2) for L in _DEPTHS}
    degrees = table.loc[list(wanted), "kernel_degree"]
    limits = table.loc[list(wanted), "kernel_limit"]
    flat = table.loc["targets without growth"]
    return (
        Claim(
            ITEM,
            "Without LayerNorm, some training set makes the converged network's mean unbounded.",
            "sup |f| is infinite",
            "5 points with positive inner products: f(1e6) = "
            + ", ".join(f"{value:.3g}" for value in fits["farthest"])
            + " with 1, 2, 3 hidden layers; degree "
            + ", ".join(f"{value:g}" for value in fits["degree"]),
            bool(fits["unbounded"].all() and (fits["degree"] == 1.0).all()),
            "The coefficients of growth are not 0: "
            + ", ".join(f"{value:.3g}" for value in fits["coefficient"])
            + ".",
        ),
        Claim(
            f"{ITEM}, kernel",
            "With an n-homogeneous activation and L hidden layers the kernel is asymptotically "
            "homogeneous of degree n^L in one input, with a positive limit.",
            ", ".join(f"{value:g}" for value in wanted.values()),
            ", ".join(f"{value:.4f}" for value in degrees) + f"; limits above {limits.min():.2g}",
            bool((abs(degrees - pd.Series(wanted)) < 1e-3).all() and (limits > 0).all()),
            "ReLU (n = 1) and squared ReLU (n = 2), L = 1, 2, 3; degree from |x| = 1e6 to 1e7.",
        ),
        Claim(
            f"{ITEM}, exists",
            "The theorem says that such a training set exists, not that every one is such.",
            "there exists",
            f"other targets, up to {flat['largest_target']:.2g}: |f| at most "
            f"{flat['largest_far']:.3g} up to |x| = 1e6",
            bool(flat["largest_target"] > 0.1 and flat["largest_far"] < 100.0),
            "The coefficients of growth are linear in the targets: on a line there are two, and "
            "5 targets can make both 0.",
        ),
    )
