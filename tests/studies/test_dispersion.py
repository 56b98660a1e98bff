"""The dispersion study: its kernels against the library's, its statistics against formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import farfield as ff
from farfield.studies.dispersion_kernels import PLACES, products

WIDTH, DEPTH = 9, 5


def drawn(seed: int, networks: int = 2, inputs: int = 3) -> tuple[Tensor, list[Tensor], Tensor]:
    """Inputs, weights and readouts of variance 2 / fan_in."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    fan_ins = (4, *(WIDTH,) * (DEPTH - 1))
    weights = [normal(networks, WIDTH, fan_in) * (2.0 / fan_in) ** 0.5 for fan_in in fan_ins]
    readouts = normal(networks, DEPTH, WIDTH) * (2.0 / WIDTH) ** 0.5
    return normal(networks, inputs, 4), weights, readouts


def module(
    weights: list[Tensor], readout: Tensor, activation: str, norm_at: str, scale: float
) -> nn.Sequential:
    """One of the networks, as everybody writes it."""
    depth, layers = len(weights), []
    normed = {"none": (), "first": (0,), "last": (depth - 1,), "every": range(depth)}[norm_at]
    for index, weight in enumerate([*weights, readout[None]]):
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(scale * weight)
            linear.bias.zero_()
        layers.append(linear)
        if index < depth:
            if index in normed:
                layers.append(nn.LayerNorm(WIDTH, eps=0.0, elementwise_affine=False))
            layers.append(nn.ReLU() if activation == "relu" else nn.Sigmoid())
    return nn.Sequential(*layers)


@pytest.mark.parametrize("norm_at", PLACES)
@pytest.mark.parametrize(("activation", "scale"), [("relu", 1.0), ("relu", 1.3), ("sigmoid", 1.0)])
def test_kernels_of_every_depth_are_those_of_the_library(
    norm_at: str, activation: str, scale: float
) -> None:
    x, weights, readouts = drawn(1)
    found = sum(products(x, weights, readouts, activation, norm_at).kernels([scale**2]))
    for network in range(len(x)):
        for depth in range(1, DEPTH + 1):
            own = [weight[network] for weight in weights[:depth]]
            model = module(own, readouts[network, depth - 1], activation, norm_at, scale)
            kernel = ff.empirical_ntk(model)(x[network, :1], x[network])[0]
            # Sums of some 100 numbers in float64, in another order.
            torch.testing.assert_close(
                found[0, network, depth - 1], kernel.detach(), rtol=1e-10, atol=1e-10
            )
