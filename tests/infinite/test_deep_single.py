"""Fifty layers in single precision: what float64 gives, rounded once."""

import pytest
import torch
from networks import Elementwise, stack
from torch import nn

import farfield as ff

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "erf": lambda: Elementwise(torch.erf)}
HELD = torch.finfo(torch.float32)
SCALES = [1e-30, 1e-4, 1.0, 1e10, 1e30]


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    return torch.cat([x, -x[:2], 0 * x[:1], x[:2] * (1 + 1e-6)])


@pytest.mark.parametrize("norm", [None, "before"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_fifty_layers(name, norm, x) -> None:
    limit = ff.infinite_width(stack(50, ACTIVATIONS[name], norm), 2.0, 0.1)
    batch = torch.cat([x * scale for scale in SCALES])  # read once for all of them
    for rough, exact in zip(limit(batch), limit(batch.double()), strict=True):
        assert rough.dtype == torch.float32
        held = (exact.abs() < HELD.max) & (exact.abs() > HELD.tiny)
        for number, scale in enumerate(SCALES):
            own = slice(number * len(x), (number + 1) * len(x))
            assert held[own, own].any() or (name, norm, scale) == ("relu", None, 1e30)
        # One rounding of each entry is 6e-8; 2e-6 is what the library promises.
        assert ((rough.double() - exact).abs() <= 1e-7 * exact.abs())[held].all()
        assert not rough.isnan().any()
