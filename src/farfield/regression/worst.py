"""The largest prediction that a search finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from farfield.regression.kernel_regression import KernelFit

_DIRECTIONS = 24
_SIZES = 25  # from 1e-3 to 1e12 times the size of the training inputs
_STARTS = 4
_OUTPUTS = 8  # for which inputs are improved by gradient ascent
_STEPS = 20
_POINTS = 2048  # training points that are looked at


@dataclass(frozen=True, eq=False)
class Worst:
    """The largest absolute predictions found, one for each output.

    Attributes:
        value: |f(x)|, (outputs,).
        x: The inputs where it is taken, (outputs, *features).
    """

    value: Float[Tensor, " outputs"]
    x: Float[Tensor, "outputs *features"]


def search(fit: KernelFit, climb: bool = True, seed: int = 0) -> Worst:
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
        The largest values and where they are taken.
    """
    points = torch.cat([_on_rays(fit, seed), fit.merged.x.cpu().double()[:_POINTS]])
    values = _sizes(fit, points)
    best, where = values.max(0)
    inputs = points[where].clone()
    outputs = min(values.shape[1], _OUTPUTS)
    if climb and outputs:
        starts = values[:, :outputs].topk(min(_STARTS, len(points)), dim=0).indices.T
        climbed = _climbed(fit, points[starts.flatten()], starts.shape[1])
        reached = _sizes(fit, climbed)
        for output in range(outputs):
            row = int(reached[:, output].argmax())
            if float(reached[row, output]) > float(best[output]):
                best[output], inputs[output] = reached[row, output], climbed[row]
    return Worst(best, inputs)


def _sizes(fit: KernelFit, points: Tensor) -> Tensor:
    return fit.predict_all(points.to(fit.merged.x.device)).cpu().abs()


def _on_rays(fit: KernelFit, seed: int) -> Tensor:
    """Points of many sizes in many directions."""
    train = fit.merged.x.cpu().double()
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


def _climbed(fit: KernelFit, starts: Tensor, each: int) -> Tensor:
    """From all points uphill at once, ``each`` of them for an output; steps in units of size."""
    train = fit.merged.x
    output = torch.arange(len(starts)) // each
    coefficients = torch.from_numpy(fit.coefficients[:, output]).to(train.device)
    lengths = starts.flatten(1).norm(dim=1).reshape(-1, *[1] * (starts.ndim - 1))
    lengths = torch.where(lengths > 0, lengths, 1.0)
    target = float(fit.merged.y.abs().max()) or 1.0

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
    return torch.where(x.isfinite(), x, starts)
