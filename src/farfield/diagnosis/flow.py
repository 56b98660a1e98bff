"""How gradients grow or shrink from layer to layer, and how deep and wide a network is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from farfield.diagnosis.draws import Draws
from farfield.diagnosis.result import Gradients
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
        widths: Their units.
    """

    layers: tuple[str, ...]
    widths: tuple[int, ...]

    @property
    def depth_to_width(self) -> float:
        """Sum of 1 / width over all but the last."""
        return math.fsum(1.0 / width for width in self.widths[:-1])


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
    """``|d(f . s)/dz|^2`` with random signs s, of every layer's outputs z, averaged over inputs."""
    names = {id(module): name for name, module in network.named_modules()}
    met: list[tuple[str, int, Tensor]] = []

    def keep(module: nn.Module, args: object, output: object) -> Tensor | None:
        matrices = [p for p in module.parameters(recurse=False) if p.ndim >= 2]
        if not matrices or not isinstance(output, Tensor) or not output.requires_grad:
            return None
        name = names[id(module)] or type(module).__name__
        met.append((name, matrices[0].shape[0], output))
        return output.clone()  # an activation may work in place

    handles = [module.register_forward_hook(keep) for module in network.modules()]
    try:
        with torch.enable_grad():
            parts = outputs_of(network(x), None).values()
            outputs = torch.cat([part.reshape(len(x), -1) for part in parts], 1)
            generator = torch.Generator().manual_seed(seed)
            signs = torch.randint(2, outputs.shape[1:], generator=generator).to(outputs) * 2 - 1
            found = torch.autograd.grad(
                (outputs @ signs).sum(), [output for *_, output in met], allow_unused=True
            )
    finally:
        for handle in handles:
            handle.remove()
    used = [(one, g) for one, g in zip(met, found, strict=True) if g is not None]
    shape = Shape(tuple(one[0] for one, _ in used), tuple(one[1] for one, _ in used))
    return shape, [float(g.double().square().sum() / len(x)) for _, g in used]


def _phase(shape: Shape, sizes: Array) -> Gradients:
    mean = sizes.mean(0)
    spans = len(shape.layers) - 1
    if spans < 2 or not (mean > 0).all() or not np.isfinite(mean).all():
        known = tuple(float(value) for value in mean)
        return Gradients("too shallow", 0.0, (0.0, 0.0), shape.layers, known)
    generator = np.random.default_rng(0)
    count = len(sizes)
    chosen = generator.multinomial(count, np.full(count, 1.0 / count), _RESAMPLES) / count
    resampled = chosen @ sizes
    slopes = np.array([_slope(one) for one in resampled[(resampled > 0).all(1)]])
    low, high = (float(q) for q in np.quantile(slopes, [0.025, 0.975]))
    slope = _slope(mean)
    far = abs(slope) * spans > math.log(SAME_SIZE)
    surely = low > 0 or high < 0
    phase = ("exploding" if slope > 0 else "vanishing") if far and surely else "critical"
    return Gradients(phase, slope, (low, high), shape.layers, tuple(float(v) for v in mean))


def _slope(sizes: Array) -> float:
    """Least-squares slope of the logarithm over layers, towards the input."""
    return -float(np.polyfit(np.arange(len(sizes)), np.log(sizes), 1)[0])
