"""The largest prediction that a search finds."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from farfield.growth import Found
from farfield.regression.kernel_regression import KernelFit

_DIRECTIONS = 24
_SIZES = 25  # from 1e-3 to 1e12 times the size of the training inputs
_STARTS = 4
_OUTPUTS = 8  # for which inputs are improved by gradient ascent
_STEPS = 20
_POINTS = 2048  # training points that are looked at


def search(fit: KernelFit, climb: bool = True, seed: int = 0) -> Found:
    """Look for inputs with large predictions.

    Rays in random directions, along the coordinates and through training points are followed to
    1e12 times the size of the training inputs; from the best points on them, and from the
    training points with the largest predictions, a quasi-Newton method (L-BFGS) climbs further, for
    the first 8 outputs.

    Args:
        fit: The fitted predictor.
        climb: Whether to climb; where there is no end to it, rays say enough.
        seed: Of the random directions.

    Returns:
        The largest absolute prediction, its input, and the ends of what was found of each output.
    """
    points = torch.cat([_on_rays(fit, seed), fit.support.cpu().double()[:_POINTS]])
    values = _predictions(fit, points)
    evaluations = len(points)
    if climb:
        sizes = values[:, :_OUTPUTS].abs()
        starts = sizes.topk(min(_STARTS, len(points)), dim=0).indices.T
        climbed, tried = _climbed(fit, points[starts.flatten()], starts.shape[1])
        points, values = (
            torch.cat([points, climbed]), torch.cat([values, _predictions(fit, climbed)])
        )  # fmt: skip
        evaluations += tried
    row, output = divmod(int(values.abs().argmax()), values.shape[1])
    largest = float(values[row, output].abs())
    return Found(largest, points[row], output, values.amin(0), values.amax(0), evaluations)


def _predictions(fit: KernelFit, points: Tensor) -> Tensor:
    return fit.predict_all(points.to(fit.support.device)).cpu()


def _on_rays(fit: KernelFit, seed: int) -> Tensor:
    """Points of many sizes in many directions."""
    train = fit.support.cpu().double()
    features = train.shape[1:]
    count = features.numel()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(_DIRECTIONS, count, dtype=torch.float64, generator=generator)
    axes = torch.eye(count, dtype=torch.float64)[:_DIRECTIONS]
    through = train.flatten(1)[:: max(1, len(train) // _DIRECTIONS)]
    directions = torch.cat([drawn, -drawn, axes, -axes, through, -through])
    norms = directions.norm(dim=1, keepdim=True)
    directions = directions / torch.where(norms > 0, norms, 1.0)
    size = float(train.flatten(1).norm(dim=1).max()) or 1.0
    sizes = size * torch.logspace(-3, 12, _SIZES, dtype=torch.float64)
    return (sizes[:, None, None] * directions).reshape(-1, *features)


def _climbed(fit: KernelFit, starts: Tensor, each: int) -> tuple[Tensor, int]:
    """From all points uphill at once, ``each`` of them for an output; steps in units of size.

    Returns:
        The points reached, and how many were tried on the way.
    """
    train = fit.support
    output = torch.arange(len(starts)) // each
    coefficients = torch.from_numpy(fit.coefficients[:, output]).to(train.device)
    lengths = starts.flatten(1).norm(dim=1).reshape(-1, *[1] * (starts.ndim - 1))
    lengths = torch.where(lengths > 0, lengths, 1.0)
    target = float(fit.solution.largest_targets.max()) or 1.0

    def descent(flat: np.ndarray) -> tuple[float, np.ndarray]:
        x = (torch.from_numpy(flat).reshape(starts.shape) * lengths).to(train).requires_grad_()
        rows = fit.settings.kernel(x, train).double()
        # The points do not know of each other: the sum is largest where all are.
        value = (rows * coefficients.T).sum(1).abs().sum() / target
        if not value.requires_grad:  # a kernel without derivatives
            return 0.0, np.zeros_like(flat)
        (slope,) = torch.autograd.grad(value, x)
        step = -(slope.cpu().double() * lengths).numpy().ravel()
        return -float(value.detach()), step

    begin = (starts / lengths).numpy().ravel()
    options = {"maxiter": _STEPS, "maxfun": _STEPS + 10}
    found = minimize(descent, begin, jac=True, method="L-BFGS-B", options=options)
    x = torch.from_numpy(np.asarray(found.x)).reshape(starts.shape) * lengths
    return torch.where(x.isfinite(), x, starts), len(starts) * int(found.nfev)
