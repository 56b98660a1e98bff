"""The largest value that a kernel's diagonal takes at any input: proven, or only found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.errors import RangeError, UnsupportedOperation
from farfield.infinite import InfiniteWidth, KernelOf
from farfield.kernel import Kernel
from farfield.regression.cells import cell_bounds

_EXPONENTS = (-20.0, 20.0)  # of the least and largest q at which cells meet
_CELLS = 64
_SPLIT = 8  # parts that a cell is divided into
_ROUNDS = 6
_MOST_CELLS = 4096  # in one round
_CLOSE = 1e-6  # relative gap of bound and attained value at which the search ends
_ROUNDING = 1e-12  # what the bounds' own arithmetic may be off by, relative
_CHECKS = 24  # random inputs at which the bounds are compared with the kernel itself
_DIRECTIONS = 64
_FAR = (1e30, 1e60)


@dataclass(frozen=True)
class Supremum:
    """What is known of ``sup_x k(x, x)``.

    Attributes:
        value: An upper bound if ``proven``, else the largest value that was found; infinite if
            the diagonal was seen to grow.
        attained: The largest value that was found.
        proven: Whether no input at all exceeds ``value``, up to rounding.
        degree: k(x, x) was seen to grow like the norm of x to this power; 0 if bounded.
        how: In words, where this is known from.
    """

    value: float
    attained: float
    proven: bool
    degree: float
    how: str


def supremum(kernel: Kernel, features: Sequence[int]) -> Supremum:
    """Bound the diagonal of a kernel over all inputs.

    For the kernels of an infinite-width limit it is proven where the model reads its input through
    linear layers (or a norm): cells of ``|x|^2 / d`` that cover 0 to infinity are bounded (see
    :mod:`farfield.regression.cells`), and those with the largest bounds divided until bound and
    attained values agree to 1e-6. For anything else the largest value is searched for.

    Args:
        kernel: The kernel.
        features: Shape of one input.

    Returns:
        The bound, or what was found.
    """
    attained, degree = _searched(kernel, features)
    reason = "the kernel was not made by infinite_width, and nothing is known of its inside"
    if isinstance(kernel.prepare, KernelOf):
        limit, name = kernel.prepare.limit, kernel.prepare.name
        try:
            bound = _bounded(limit, name, features, attained)
        except UnsupportedOperation as error:
            reason = str(error).split(". ")[0]
        else:
            if bound < math.inf:
                how = (
                    "interval arithmetic on the recursion of the diagonal, on ranges of |x| that "
                    "together go from 0 to infinity"
                )
                return Supremum(bound, min(attained, bound), True, 0.0, how)
            reason = "interval arithmetic gives no finite bound"
    if degree > 0.0:
        return Supremum(math.inf, math.inf, False, degree, f"{reason}; k(x, x) was seen to grow")
    return Supremum(attained, attained, False, 0.0, f"{reason}; the value is the largest found")


def _searched(kernel: Kernel, features: Sequence[int]) -> tuple[float, float]:
    """The largest value at random inputs of many sizes, and the degree of growth."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(_DIRECTIONS, *features, dtype=torch.float64, generator=generator)
    norms = directions.flatten(1).norm(dim=1).reshape(-1, *[1] * len(features))
    directions = directions / torch.where(norms == 0, 1.0, norms)
    sizes = torch.logspace(-12, 12, _DIRECTIONS, dtype=torch.float64).reshape(norms.shape)
    near = _diagonal(kernel, torch.cat([directions * sizes, 0.0 * directions[:1]]))
    far, farther = (_diagonal(kernel, size * directions) for size in _FAR)
    largest = max(float(values.max()) for values in (near, far, farther))
    ratio = float((farther / far).nan_to_num(1.0).max())
    # Rounding alone gives degrees of 1e-17.
    degree = math.log(max(ratio, 1.0)) / math.log(_FAR[1] / _FAR[0])
    return largest, round(degree, 6)


def _diagonal(kernel: Kernel, x: Tensor) -> Tensor:
    with torch.no_grad():
        try:
            return kernel.diagonal(x)
        except RangeError:  # grown beyond all numbers
            return torch.full((len(x),), torch.inf, dtype=torch.float64)


def _bounded(limit: InfiniteWidth, name: str, features: Sequence[int], attained: float) -> float:
    """The least upper bound that cells give, or infinity."""
    kernel = limit.nngp if name == "nngp" else limit.ntk
    start = torch.zeros(1, dtype=torch.float64)
    inner = torch.logspace(*_EXPONENTS, _CELLS + 1, dtype=torch.float64)
    edges = torch.cat([start, inner, start + torch.inf])
    low, high = edges[:-1], edges[1:]
    # The outermost cells cannot be divided: without a bound there, there is none.
    ends = cell_bounds(limit, name, features, low[[0, -1]], high[[0, -1]])
    if not bool(ends.isfinite().all()) or not _agrees(limit, name, features):
        return math.inf
    best = float(ends.max())
    low, high = low[1:-1], high[1:-1]
    towards = torch.ones(1, *features, dtype=torch.float64)  # |x|^2 / d = 1
    for round_number in range(_ROUNDS):
        bounds = cell_bounds(limit, name, features, low, high)
        points = high.sqrt().reshape(-1, *[1] * len(features)) * towards
        attained = max(attained, float(_diagonal(kernel, points).max()))
        loose = bounds > max(best, attained * (1.0 + _CLOSE))
        best = max([best, *bounds[~loose].tolist()])
        low, high, bounds = low[loose], high[loose], bounds[loose]
        last = round_number == _ROUNDS - 1 or len(low) * _SPLIT > _MOST_CELLS
        if last or not len(low):
            break
        steps = torch.linspace(0, 1, _SPLIT + 1, dtype=torch.float64)
        cuts = low[:, None] * (high / low)[:, None] ** steps
        cuts[:, 0], cuts[:, -1] = low, high  # rounding must not leave gaps
        low, high = cuts[:, :-1].flatten(), cuts[:, 1:].flatten()
    return float(max([best, *bounds.tolist()])) * (1.0 + _ROUNDING)


def _agrees(limit: InfiniteWidth, name: str, features: Sequence[int]) -> bool:
    """Whether the bounds, at single points, are the values of the kernel itself or above.

    They share the rules of activations, but nothing of how layers are put together.
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(_CHECKS, *features, dtype=torch.float64, generator=generator)
    sizes = torch.logspace(-6, 6, _CHECKS, dtype=torch.float64)
    x = x * sizes.reshape(-1, *[1] * len(features))
    mean_square = x.flatten(1).square().mean(1)
    bounds = cell_bounds(limit, name, features, mean_square, mean_square)
    kernel = limit.nngp if name == "nngp" else limit.ntk
    return bool((_diagonal(kernel, x) <= bounds * (1.0 + 1e-9)).all())
