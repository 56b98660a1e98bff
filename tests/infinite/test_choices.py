"""Activations written by cases."""

import pytest
import torch
from networks import Elementwise, stack
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.errors import UnsupportedOperation

X = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def kernels(function) -> tuple[torch.Tensor, torch.Tensor]:
    return ff.infinite_width(stack(1, lambda: Elementwise(function)), 2.0, 0.1)(X)


@pytest.mark.parametrize(
    ("cases", "known"),
    [
        (lambda u: torch.where(u > 0, u, 0.1 * u), lambda u: F.leaky_relu(u, 0.1)),
        (lambda u: u.where(u >= 0, torch.zeros(())), torch.relu),
        (lambda u: (u > 0) * u, torch.relu),
        (lambda u: u * (u > 0).float(), torch.relu),
        (lambda u: torch.where(u < 0, -1.0, 1.0), torch.sign),
        (lambda u: torch.maximum(u, -u), torch.abs),
        (lambda u: torch.minimum(u, 0.0 * u), lambda u: -F.relu(-u)),
        (lambda u: torch.where(u > 0, u**2, 0.0), lambda u: torch.relu(u) ** 2),
        (lambda u: torch.where(u > 0, u, torch.expm1(u)), F.elu),
        (lambda u: u / (1 + torch.exp(-u)), F.silu),
        (lambda u: 1 / (1 + torch.exp(-u)), torch.sigmoid),
        (lambda u: u / (1 + u.abs()), F.softsign),
        (lambda u: torch.where(u > 1, u, 1.0) - 1, lambda u: F.relu(u - 1)),
        (lambda u: torch.where(u.abs() < 1, u, u.sign()), F.hardtanh),
        (lambda u: u.masked_fill(u < 0, 0.0), torch.relu),
        (lambda u: torch.max(u, torch.zeros_like(u)), torch.relu),
        (lambda u: torch.minimum(torch.zeros(()), u), lambda u: -F.relu(-u)),
        (lambda u: F.threshold(u, 0.5, 0.5), lambda u: F.relu(u - 0.5) + 0.5),
        (lambda u: F.rrelu(u, 0.1, 0.3), lambda u: F.leaky_relu(u, 0.2)),
        (lambda u: 2.0**u, lambda u: torch.exp(0.6931471805599453 * u)),
        (torch.exp2, lambda u: 2.0**u),
        (torch.sinc, lambda u: torch.sin(torch.pi * u) / (torch.pi * u)),
    ],
)
def test_cases_agree_with_the_known_function(cases, known) -> None:
    for one, two in zip(kernels(cases), kernels(known), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-11)


def test_cases_of_the_raw_input() -> None:
    def clipped(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0.5, 0.5, x)

    model = nn.Sequential(Elementwise(clipped), nn.Linear(3, 1))
    value = ff.infinite_width(model, 1.0, 0.0).nngp(X)
    below = X.clamp(max=0.5)
    torch.testing.assert_close(value, below @ below.T / 3)


def test_a_choice_between_different_units_is_refused() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            u, v = self.first(x), self.second(x)
            return self.last(torch.where(u > 0, u, v))

    with pytest.raises(UnsupportedOperation, match="same Gaussian units"):
        ff.infinite_width(Two()).ntk(X)


@pytest.mark.parametrize(
    "function",
    [
        lambda u: u.max(1).values,
        lambda u: torch.min(u, dim=-1)[0],
        lambda u: torch.maximum(u, torch.arange(4.0)),
        lambda u: (-2.0) ** u,
        lambda u: F.rrelu(u, training=True),
    ],
)
def test_other_choices_are_refused(function) -> None:
    with pytest.raises(UnsupportedOperation):
        kernels(function)
