"""The tangent kernel over draws: its dispersion, tails, and what theory says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from farfield.diagnosis.draws import Draws, Stacked
from farfield.diagnosis.result import Dispersion, Interval
from farfield.empirical import empirical_ntk
from farfield.errors import RangeError
from farfield.networks import init_variance
from farfield.replaced import run_with
from farfield.theory import ntk_moments

HEAVY = 0.1
"""Share of the largest draw in the sum of T^2 from which a dispersion is called heavy-tailed: among
200 draws of an even law it is below 2 %, and removing such a draw moves the value by a tenth."""

_EQUAL_SHARES = 10.0  # that the largest draw must have, lest every small sample be called heavy

_NUMBERS_AT_ONCE = 2**24  # of gradients: 64 MB in float32
_RESAMPLES = 1000

Array = npt.NDArray[np.float64]


def kernels(
    draws: Draws, x: Tensor, outputs: int, count: int, done: Callable[[int], None]
) -> Array:
    """T(x, x) of ``count`` networks, the mean over the outputs: (count, inputs), in float64.

    Many networks run at once where the model lets ``vmap`` batch it, else one after the other.

    Raises:
        RangeError: A kernel is not finite, or all of them are zero.
    """
    at_once = max(1, _NUMBERS_AT_ONCE // (draws.size * len(x) * outputs))
    parts: list[Tensor] = []
    batched = at_once > 1
    first = 0
    while first < count:
        numbers = range(first, min(count, first + (at_once if batched else 1)))
        values = _batched(draws.stacked(numbers), x) if batched else None
        if values is None and batched:
            batched = False
            continue
        if values is None:
            values = empirical_ntk(draws.network(first)).diagonal(x)[None]
        parts.append(values.detach().double().cpu())
        first = numbers.stop
        done(first)
    found = torch.cat(parts)
    if not bool(found.isfinite().all()):
        raise RangeError(
            f"The tangent kernel of {int((~found.isfinite()).any(1).sum())} of {count} draws is "
            f"not finite in {x.dtype}; give the model in float64 (model.double()), smaller inputs "
            "or a smaller weight_var."
        )
    if not bool((found > 0).any()):
        raise RangeError("The tangent kernel of every draw is zero: nothing the model trains acts.")
    array: Array = found.numpy()
    return array


def _batched(networks: Stacked, x: Tensor) -> Tensor | None:
    """T of several networks in one pass; ``None`` where the model cannot be batched."""
    skeleton = networks.skeleton
    with torch.no_grad():
        output = skeleton(x[:1])
    if not isinstance(output, Tensor):
        return None
    signals = torch.eye(output.numel(), dtype=output.dtype, device=output.device)

    def size(own: dict[str, Tensor], others: dict[str, Tensor], one: Tensor) -> Tensor:
        def projected(values: dict[str, Tensor], signal: Tensor) -> Tensor:
            result: Tensor = run_with(skeleton, {**others, **values}, one[None])
            return (result.reshape(-1) * signal).sum()

        def of_output(signal: Tensor) -> Tensor:
            gradients = grad(projected)(own, signal)
            return torch.stack([g.square().sum() for g in gradients.values()]).sum()

        return vmap(of_output)(signals).mean()

    over_inputs = vmap(size, in_dims=(None, None, 0))
    over_networks = vmap(over_inputs, in_dims=(0, 0, None))
    try:
        with sdpa_kernel(SDPBackend.MATH):  # the others have no rule of batching
            values: Tensor = over_networks(networks.trained, networks.others, x)
    except (RuntimeError, ValueError, NotImplementedError):
        return None  # control flow on values, in-place functions, random numbers, ...
    return values


def dispersion(
    values: Array, predicted: float | None, why_not: str | None, seed: int
) -> Dispersion:
    """The statistics of kernels (draws, inputs)."""
    generator = np.random.default_rng(seed)
    count = len(values)
    scaled = values / values.mean(0).clip(min=np.finfo(float).tiny)
    chosen = generator.multinomial(count, np.full(count, 1.0 / count), _RESAMPLES) / count
    means = chosen @ scaled
    alive = (means > 0).all(1)
    resampled = ((chosen @ scaled**2)[alive] / means[alive] ** 2).mean(1)
    squares = (scaled**2).mean(1)
    logs = np.log(values[values > 0])
    low, middle, high = np.quantile(logs, [0.25, 0.5, 0.75])
    around = scaled - 1.0
    variance = (around**2).mean(0)
    share = float(squares.max() / squares.sum())
    flat = bool((variance > 1e-20).all())
    return Dispersion(
        float((scaled**2).mean()),
        _interval(resampled),
        predicted,
        why_not,
        float(middle),
        float(high - low),
        float(((around**4).mean(0) / variance**2).mean() - 3.0) if flat else 0.0,
        share,
        share > max(HEAVY, _EQUAL_SHARES / count),
        count,
        int((values == 0).any(1).sum()),
    )


def _interval(values: Array) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def predicted(network: nn.Module, x: Tensor) -> tuple[float | None, str | None]:
    """The exact dispersion of a Gaussian ReLU network, averaged over the inputs, or why not."""
    layers = _flat(network)
    if layers is None:
        return None, "exact formulas are for plain sequences of Linear and ReLU or LeakyReLU"
    linear = layers[0::2]
    variances = [init_variance(layer) for layer in linear]
    if any(variance is None for variance in variances):
        return (
            None,
            "its layers were not drawn by gaussian_init_, and exact formulas need Gaussians",
        )
    biased = [layer.bias is not None for layer in linear]
    if any(biased) != all(biased) or not all(p.requires_grad for p in network.parameters()):
        return None, "exact formulas need all layers trained, and biases in all of them or none"
    slopes = {float(getattr(layer, "negative_slope", 0.0)) for layer in layers[1::2]}
    if len(slopes) > 1:
        return None, "exact formulas need one slope for all activations"
    known = [variance for variance in variances if variance is not None]
    if any(variance.weight == 0 for variance in known):
        return None, "a weight_var is 0"
    shapes = [layer.get_parameter("weight").shape for layer in linear]
    widths = [shapes[0][1], *(shape[0] for shape in shapes)]
    norms = [float(norm) for norm in x.detach().double().flatten(1).norm(dim=1)]
    if min(norms) == 0.0:
        return None, "exact formulas need inputs other than zero"
    values = [
        ntk_moments(
            widths,
            [variance.weight for variance in known],
            [variance.bias if all(biased) else 0.0 for variance in known],
            bias=all(biased),
            negative_slope=next(iter(slopes), 0.0),
            input_norm=norm,
        ).dispersion
        for norm in norms
    ]
    return math.fsum(values) / len(values), None


def _flat(network: nn.Module) -> list[nn.Module] | None:
    """Linear layers and activations in turn, if the network is nothing else."""
    layers: list[nn.Module] = []

    def walk(module: nn.Module) -> bool:
        if type(module) is nn.Sequential:
            return all(walk(child) for child in module)
        layers.append(module)
        return type(module) in (nn.Linear, nn.ReLU, nn.LeakyReLU)

    if not walk(network) or len(layers) % 2 == 0:
        return None
    in_turn = all(
        (type(layer) is nn.Linear) == (place % 2 == 0) for place, layer in enumerate(layers)
    )
    return layers if in_turn else None
