"""How gradients grow or shrink from layer to layer, and how deep and wide a network is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from farfield.diagnosis.draws import Draws, side_by_side
from farfield.diagnosis.result import Gradients
from farfield.errors import RangeError
from farfield.infinite.outputs import outputs_of

SAME_SIZE = 10.0
"""Gradients are critical where the variances of the first and the last layer differ by no more than
this: rates of learning then differ by a factor of about 3, which one optimiser's step bears."""

_RESAMPLES = 1000

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """Layers with a matrix, in the order of their calls.

    Attributes:
        layers: Their names.
        hidden: The units, or channels, of those that are no output of the model.
    """

    layers: tuple[str, ...]
    hidden: tuple[int, ...]

    @property
    def depth_to_width(self) -> float:
        """Sum of 1 / width over the hidden layers."""
        return math.fsum(1.0 / width for width in self.hidden)


@dataclass(frozen=True, eq=False)
class _Met:
    """One call of a layer: its name, what it puts out, and the dimension of its units there."""

    name: str
    output: Tensor
    units: int


def gradients(
    draws: Draws, x: Tensor, count: int, done: Callable[[int], None]
) -> tuple[Shape, Gradients]:
    """The phase of the gradients, from the outputs' gradients back to every layer."""
    sizes = []
    shape = Shape((), ())
    for number in range(count):
        shape, values = _backward(draws.network(number), x, number)
        sizes.append(values)
        done(number + 1)
    return shape, _phase(shape, np.array(sizes, dtype=float))


def _backward(network: nn.Module, x: Tensor, seed: int) -> tuple[Shape, list[float]]:
    """``|d(f . s)/db|^2`` with random signs s, b a shift of each unit of a layer, averaged over x.

    A unit that acts at several places, as a channel of a convolution does, has one b for all of
    them: sums of squares over places would fall at every pooling, although its weights learn well.
    """
    names = {id(module): name for name, module in network.named_modules()}
    met: list[_Met] = []

    def keep(module: nn.Module, args: object, output: object) -> Tensor | None:
        matrix = any(p.ndim >= 2 for p in module.parameters(recurse=False))
        if not matrix or not isinstance(output, Tensor) or not output.requires_grad:
            return None
        own = output.clone()  # an activation may work in place
        name = names[id(module)] or type(module).__name__
        met.append(_Met(name, own, 1 if isinstance(module, _ConvNd) else own.ndim - 1))
        return own

    handles = [module.register_forward_hook(keep) for module in network.modules()]
    try:
        with torch.enable_grad():
            result = network(x)
            values = side_by_side(result, len(x))
            generator = torch.Generator().manual_seed(seed)
            signs = torch.randint(2, values.shape[1:], generator=generator).to(values) * 2 - 1
            found = torch.autograd.grad(
                (values @ signs).sum(), [one.output for one in met], allow_unused=True
            )
    finally:
        for handle in handles:
            handle.remove()
    # A view of what a layer puts out is the layer's own: it is an output of the model.
    ends = {part.untyped_storage().data_ptr() for part in outputs_of(result, None).values()}
    used = [(one, g) for one, g in zip(met, found, strict=True) if g is not None]
    hidden = [
        one.output.shape[one.units]
        for one, _ in used[:-1]
        if one.output.untyped_storage().data_ptr() not in ends
    ]
    sizes = []
    for one, g in used:
        places = [axis for axis in range(1, g.ndim) if axis != one.units]
        shifts = g.double().sum(places) if places else g.double()
        sizes.append(float(shifts.square().sum() / len(x)))
    return Shape(tuple(one.name for one, _ in used), tuple(hidden)), sizes


def _phase(shape: Shape, sizes: Array) -> Gradients:
    mean = sizes.mean(0)
    known = tuple(float(value) for value in mean)
    spans = len(shape.layers) - 1
    if not np.isfinite(mean).all():
        raise RangeError(
            "The gradients of some draws are not finite; give the model in float64 "
            "(model.double()), smaller inputs or a smaller weight_var."
        )
    if spans < 2:
        return Gradients("too shallow", 0.0, (0.0, 0.0), shape.layers, known)
    # Gradients of 0 have no logarithm: those of dead units, or below the smallest number.
    there = np.flatnonzero(mean > 0)
    if len(there) < 2:
        return Gradients("vanishing", -math.inf, (-math.inf, -math.inf), shape.layers, known)
    generator = np.random.default_rng(0)
    count = len(sizes)
    chosen = generator.multinomial(count, np.full(count, 1.0 / count), _RESAMPLES) / count
    resampled = chosen @ sizes[:, there]
    slopes = np.array([_slope(there, one) for one in resampled[(resampled > 0).all(1)]])
    low, high = (float(q) for q in np.quantile(slopes, [0.025, 0.975]))
    slope = _slope(there, mean[there])
    far = abs(slope) * spans > math.log(SAME_SIZE)
    surely = low > 0 or high < 0
    phase = ("exploding" if slope > 0 else "vanishing") if far and surely else "critical"
    if mean[0] == 0.0:
        phase = "vanishing"
    return Gradients(phase, slope, (low, high), shape.layers, known)


def _slope(layers: npt.NDArray[np.int64], sizes: Array) -> float:
    """Least-squares slope of the logarithm over layers, towards the input."""
    return -float(np.polyfit(layers, np.log(sizes), 1)[0])
