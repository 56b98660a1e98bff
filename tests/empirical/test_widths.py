"""The kernel of wide networks tends to that of infinite width."""

import pytest
import torch

import farfield as ff


@pytest.mark.parametrize("norm", [None, "layer"])
def test_towards_infinite_width(norm) -> None:
    points = torch.randn(3, 4, dtype=torch.float64)
    draws, moments = 40, {}
    for width in (16, 256):
        model = ff.mlp(4, [width, width], 1, norm=norm).double()
        ff.gaussian_init_(model, weight_var=2.0, bias_var=0.1)
        kernel, kernels = ff.empirical_ntk(model, parameterization="ntk"), []
        for _ in range(draws):
            kernels.append(kernel(points))
            ff.gaussian_init_(model, weight_var=2.0, bias_var=0.1)
        stacked = torch.stack(kernels)
        moments[width] = stacked.mean(0), stacked.std(0)
    limit = ff.infinite_width(model).ntk(points)
    size = limit.diagonal().max()
    for width, (mean, std) in moments.items():
        # The mean is off by a few 1 / width, and by what is left of the fluctuation.
        allowed = 10 * size / width + 6 * std / draws**0.5
        assert ((mean - limit).abs() < allowed).all()
    spread = [moments[width][1].norm().item() for width in (16, 256)]
    # 1 / sqrt(width) makes four; deviations of 40 draws are known to a sixth or so.
    assert 2.0 < spread[0] / spread[1] < 8.0
