"""What a fitted predictor does as its input goes to infinity along a ray."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.errors import AccuracyWarning, RangeError, SettingsError
from farfield.regression.kernel_regression import KernelFit
from farfield.regression.matrices import cross_matrix

SCALES = tuple(10.0**exponent for exponent in range(3, 13))
"""Multiples of the direction at which limits are compared with predictions."""

_FAR = ((1e30, 1e60), (1e12, 1e24))  # the second where powers of the first overflow
_CANCELLED = 1e-12  # of the terms of a leading coefficient, what is left if they cancel
_ROUNDED = 9  # digits of a degree


@dataclass(frozen=True, eq=False)
class Ray:
    """A predictor along ``t * direction`` for t -> infinity: ``f ~ coefficient t^degree``.

    Attributes:
        direction: The direction.
        degree: The degree of growth of k(x, X); the one of f, unless its coefficient is 0.
        coefficient: ``lim f(t direction) / t^degree`` of each output, (outputs,): for degree 0
            the limit of the prediction. It is 0 where the terms of the sum cancel.
        scales: Some t.
        predictions: f at these, (scales, outputs).
        gap: How far ``f / t^degree`` is from the coefficient at the largest t, relative to the
            largest target (for degree 0) or coefficient.
    """

    direction: Float[Tensor, "*features"]
    degree: float
    coefficient: Float[Tensor, " outputs"]
    scales: tuple[float, ...]
    predictions: Float[Tensor, "scales outputs"]
    gap: float


def along(fit: KernelFit, direction: Float[Tensor, "*features"]) -> Ray:
    r"""The limit of a prediction along a ray, or how it grows.

    ``f(t u) = k(t u, X) a``, and the limiting kernel is ``lim k(t u, X) / t^p``. Kernels of
    :func:`farfield.infinite_width` are exact for inputs of any size, so that it is taken at t of
    1e60 times the size of the training inputs, where what is missing is less than a rounding; p
    is read from two such t. It is compared with predictions at 1e3 to 1e12 times the direction.

    Args:
        fit: The fitted predictor.
        direction: Any input but 0; t counts its multiples.

    Returns:
        Degree, coefficient and comparison.

    Raises:
        SettingsError: A direction that is 0, not finite or of another shape.

    Warns:
        AccuracyWarning: Predictions at 1e12 times the direction are not there yet.
    """
    train = fit.support
    if tuple(direction.shape) != tuple(train.shape[1:]):
        raise SettingsError(
            f"The direction has shape {tuple(direction.shape)}; it must be one input, of shape "
            f"{tuple(train.shape[1:])}."
        )
    u = direction.detach().double().cpu()
    length = float(u.norm())
    if not 0.0 < length < math.inf:
        raise SettingsError(f"The direction has the length {length}; it must be finite and not 0.")
    degrees, coefficients = limits_along(fit, u[None])
    degree, coefficient = float(degrees[0]), coefficients[0]
    scales = torch.tensor(SCALES, dtype=torch.float64)
    points = scales.reshape(-1, *[1] * u.ndim) * u
    predictions = fit.predict_all(points.to(train.device)).cpu()
    size = max(
        float(np.abs(coefficient).max()), float(fit.solution.largest_targets.max()) * (degree == 0)
    )
    last = predictions[-1].numpy() / SCALES[-1] ** degree
    gap = float(np.abs(last - coefficient).max()) / size if size else 0.0
    if gap > 1e-3:
        warnings.warn(
            f"At 1e12 times the direction predictions differ from their limit by {gap:.1g} of its "
            "size: they settle further away.",
            AccuracyWarning,
            stacklevel=2,
        )
    return Ray(u, degree, torch.from_numpy(coefficient), SCALES, predictions, gap)


def limits_along(
    fit: KernelFit, directions: Float[Tensor, "m *features"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "m outputs"]]:
    """Degree and coefficient of :class:`Ray` for several directions, which must not be 0.

    Raises:
        RangeError: The kernel is beyond its dtype's range already where its degree is read.
    """
    train = fit.support
    lengths = directions.flatten(1).norm(dim=1).reshape(-1, *[1] * (directions.ndim - 1))
    size = max(1.0, float(train.abs().max()))
    for near, far in _FAR:
        try:
            rows = [_rows(fit, directions * (scale * size / lengths)) for scale in (near, far)]
        except RangeError:
            continue
        norms = [np.abs(row).max(axis=1) for row in rows]  # their squares could overflow
        if np.isfinite(norms[1]).all():
            break
    else:
        raise RangeError(
            "The kernel grows beyond the range of its dtype before its degree can be told; use "
            "float64."
        )
    # A kernel that vanishes along a ray has degree 0 and the limit 0.
    there = (norms[0] > 0) & (norms[1] > 0)
    ratios = np.where(there, norms[1], 1.0) / np.where(there, norms[0], 1.0)
    degrees = np.round(np.log(ratios) / np.log(far / near), _ROUNDED) + 0.0
    factors = (far * size / lengths.flatten().numpy()) ** degrees
    terms = rows[1] / factors[:, None]
    coefficients = terms @ fit.coefficients
    parts = np.abs(terms) @ np.abs(fit.coefficients)
    coefficients[np.abs(coefficients) <= _CANCELLED * parts] = 0.0
    return degrees, coefficients


def _rows(fit: KernelFit, points: Tensor) -> np.ndarray:
    train = fit.support
    new = points.to(train.device, train.dtype)
    if not bool(new.isfinite().all()):
        raise RangeError("The points are beyond the range of the kernel's dtype.")
    return cross_matrix(fit.settings.kernel, new, train)
