"""Kernels of 500 inputs are positive semi-definite, to rounding."""

import pytest
import torch
from networks import Elementwise, stack
from torch import nn

import farfield as ff

NETWORKS = {
    "relu": lambda features: stack(3, nn.ReLU, inputs=features),
    "relu, norm before": lambda features: stack(3, nn.ReLU, "before", inputs=features),
    "relu, norm after": lambda features: stack(3, nn.ReLU, "after", inputs=features),
    "gelu": lambda features: stack(3, nn.GELU, inputs=features),
    "erf": lambda features: stack(3, lambda: Elementwise(torch.erf), inputs=features),
}


@pytest.mark.parametrize("features", [5, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_smallest_eigenvalue(name, features) -> None:
    # On a line the kernels of smooth activations are singular to rounding, which is the hard case.
    seed = torch.Generator().manual_seed(0)
    x = 2.0 * torch.randn(500, features, dtype=torch.float64, generator=seed)
    for matrix in ff.infinite_width(NETWORKS[name](features), 2.0, 0.1)(x):
        values = torch.linalg.eigvalsh(matrix)
        assert values[0] >= -1e-12 * values[-1]
        if features == 1 and name in ("gelu", "erf"):
            assert values[0] <= 1e-14 * values[-1]
