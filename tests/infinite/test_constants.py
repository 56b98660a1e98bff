"""Constants beside the input: standardisation, a feature that is always one."""

import pytest
import torch
from networks import Elementwise
from torch import nn

import farfield as ff
from farfield.errors import UnsupportedOperation

X = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
MEAN = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
SPREAD = torch.tensor([1.0, 3.0, 0.25], dtype=torch.float64)
LAST = (nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))


def kernel(*layers: nn.Module, x: torch.Tensor = X) -> torch.Tensor:
    return ff.infinite_width(nn.Sequential(*layers), 1.5, 0.2).ntk(x)


@pytest.mark.parametrize(
    "standardise",
    [
        lambda x: (x - MEAN) / SPREAD,
        lambda x: (x - MEAN[None]) * SPREAD.reciprocal(),
        lambda x: (x - MEAN.expand(len(x), 3)).div(SPREAD),
        lambda x: (MEAN - x) / -SPREAD,
    ],
)
def test_features_are_standardised(standardise) -> None:
    one = kernel(Elementwise(standardise), *LAST)
    torch.testing.assert_close(one, kernel(*LAST, x=(X - MEAN) / SPREAD), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    "ones",
    [
        lambda x: torch.ones(len(x), 1),
        lambda x: torch.ones_like(x)[:, :1],
        lambda x: x.new_ones(len(x), 1),
        lambda x: 1.0 - x.new_zeros((len(x), 1)),
        lambda x: torch.zeros_like(x)[:, :1] + 1.0,
    ],
)
def test_a_feature_that_is_always_one(ones) -> None:
    layers = (nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    one = kernel(Elementwise(lambda x: torch.cat([x, ones(x)], dim=-1)), *layers)
    beside = torch.cat([X, torch.ones(5, 1, dtype=X.dtype)], -1)
    torch.testing.assert_close(one, kernel(*layers, x=beside), rtol=1e-14, atol=1e-14)


def test_constants_beside_units() -> None:
    def beside(h: torch.Tensor) -> torch.Tensor:
        return torch.cat([h, 2.0 * torch.ones(len(h), 4)], dim=-1)

    model = nn.Sequential(nn.Linear(3, 4), Elementwise(beside), nn.Linear(8, 1))
    k = 1.5 * X @ X.T / 3 + 0.2
    value = ff.infinite_width(model, 1.5, 0.2).nngp(X)
    torch.testing.assert_close(value, 1.5 * (k + 4.0) / 2 + 0.2)


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x: x + torch.arange(len(x))[:, None].expand(len(x), 3), "Rows must stay apart"),
        (lambda x: torch.cat([x, torch.rand(len(x), 1)], -1), "random numbers"),
        (lambda x: torch.cat([x, torch.ones(2, 1)], -1), "Sizes of tensors must match"),
        (lambda x: x * nn.Parameter(torch.ones(3)), "with a parameter"),
    ],
)
def test_refused(function, match) -> None:
    with pytest.raises(UnsupportedOperation, match=match):
        kernel(Elementwise(function), *LAST)
