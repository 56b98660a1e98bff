"""Whether outputs on rays grow without an end in sight, and how fast."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

RADII = (1e3, 1e6, 1e9, 1e12)
FINE = tuple(1.5**k for k in range(-16, 69))  # from 1e-3 to 1e12
_LEAST = 0.05  # of the degree
_ROUNDING = 1e-6  # of float64 against float32: 2^-29, with room for bad luck
_SPAN = 3  # fine radii between which growth before an overflow is measured
_HUGE = 1e30  # what outgrows every power is this large before it overflows


@dataclass(frozen=True, eq=False)
class Escape:
    """A ray on which an output grows.

    Attributes:
        degree: The output grows like radius^degree between 1e9 and 1e12.
        slope: ``output / radius^degree``, with the degree rounded to a whole number if it is one.
        ray: The direction, of length 1.
        output: The index of the output, counted in the flattened output.
        radii: Radii.
        values: The output at these radii.
    """

    degree: float
    slope: float
    ray: Tensor
    output: int
    radii: tuple[float, ...]
    values: tuple[float, ...]


def steepest(rays: Tensor, outputs: Tensor, noise: Tensor, proven: float) -> Escape | None:
    """The ray of the highest degree, and of these the one with the largest output.

    Args:
        rays: (k, *shape).
        outputs: (4, k, m), at the radii.
        noise: (m,), what rounding can make of 0 at the largest radius.
        proven: No degree is larger.

    Returns:
        The ray, or nothing if no output grows.
    """
    sizes = outputs.abs()
    ratio = (sizes[3] / sizes[2].clamp(min=1e-300)).log10() / 3.0
    earlier = (sizes[2] / sizes[1].clamp(min=1e-300)).log10() / 3.0
    grows = (ratio > _LEAST) & (earlier > _LEAST) & (sizes[3] > noise) & sizes[3].isfinite()
    if not bool(grows.any()):
        return None
    best = grows & (ratio > float(ratio[grows].max()) - _LEAST)
    row, output = _first(best, sizes[3])
    degree = _whole(min(float(ratio[row, output]), proven))
    slope = float(outputs[3, row, output]) / RADII[3] ** degree
    values = tuple(outputs[:, row, output].tolist())
    return Escape(degree, slope, rays[row], output, RADII, values)


def rounding_noise(values: Tensor, rough: Tensor) -> Tensor:
    """What rounding in float64 can make of 0, judged by what it makes in float32.

    Where large terms cancel, their rounding is left, and grows as they do.

    Args:
        values: Outputs in float64, (k, m).
        rough: The same in float32; where it overflows nothing is known.

    Returns:
        For each output the most among the inputs, (m,).
    """
    return _ROUNDING * (values - rough).abs().nan_to_num(0.0, 0.0, 0.0).amax(0)


def overflowing(ray: Tensor, outputs: Tensor, proven: float) -> Escape | None:
    """An output that grows out of float64, and was huge before.

    Args:
        ray: The direction.
        outputs: (85, m), at the fine radii.
        proven: The degree that is not exceeded; if it is infinite, so is that of the escape.
    """
    for output in range(outputs.shape[1]):
        values = outputs[:, output]
        last = int(values.isfinite().long().cumprod(0).sum()) - 1
        if not _SPAN <= last < len(values) - 1 or not values[last + 1].isinf():
            continue
        before, now = float(values[last - _SPAN].abs()), float(values[last].abs())
        if now < _HUGE or now < before:
            continue
        shown = [last - _SPAN, last, last + 1]
        radii = tuple(FINE[k] for k in shown)
        degree = math.log(now / max(before, 1e-300)) / math.log(radii[1] / radii[0])
        degree = proven if math.isinf(proven) else _whole(min(degree, proven))
        slope = math.nan if math.isinf(degree) else float(values[last]) / radii[1] ** degree
        return Escape(degree, slope, ray, output, radii, tuple(values[shown].tolist()))
    return None


def _whole(degree: float) -> float:
    """The whole number that a measured degree is, but for terms of lower degree."""
    whole = round(degree)
    return float(whole) if abs(degree - whole) < 1e-3 else degree


def _first(mask: Tensor, size: Tensor) -> tuple[int, int]:
    """Where the mask is set and the size is largest."""
    best = int(torch.where(mask, size.nan_to_num(0.0), -1.0).argmax())
    return best // mask.shape[1], best % mask.shape[1]
