"""Ranges of units and of features: gates, several inputs in one tensor, the only output."""

import pytest
import torch
from networks import Elementwise
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.errors import SettingsError, UnsupportedOperation

X = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(11))


class Gated(nn.Module):
    """A gated linear unit of some features, a gate of two halves of units, one output."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, width), nn.Linear(3, width)
        self.last = nn.Linear(width // 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.glu(self.first(x[:, :3]))
        u, v = self.second(x[..., 3:]).chunk(2, dim=-1)
        return self.last(h + u.relu() * v).squeeze(-1)


class Through(nn.Module):
    """A linear map, a function of its units, a linear map of four units."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first, self.function, self.last = nn.Linear(6, 8), function, nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.function(self.first(x)))


def kernels(function) -> tuple[torch.Tensor, torch.Tensor]:
    return ff.infinite_width(Through(function), weight_var=1.5, bias_var=0.2)(X)


def test_gates_agree_with_finite_networks() -> None:
    seed = torch.Generator().manual_seed(0)
    drawn = ff.monte_carlo(
        Gated(512).double(), X, draws=40, weight_var=1.5, bias_var=0.2, generator=seed
    )
    limit = ff.infinite_width(Gated(), weight_var=1.5, bias_var=0.2)
    # Twenty correlated comparisons of 40 draws each: 4 standard errors are rare.
    assert ((drawn.nngp - limit.nngp(X)).abs() <= 4 * drawn.nngp_error).all()
    assert ((drawn.ntk - limit.ntk(X)).abs() <= 4 * drawn.ntk_error).all()


def test_disjoint_ranges_are_independent_and_equal_ranges_the_same() -> None:
    halves = kernels(lambda h: h[:, :4] * h[:, 4:])
    split = kernels(lambda h: torch.mul(*h.split(4, dim=-1)))
    same = kernels(lambda h: h[:, :4] * h[..., 0:4])
    square = kernels(lambda h: h[:, :4] ** 2)
    for one, two, three, four in zip(halves, split, same, square, strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(three, four)
    k = 1.5 * X @ X.T / 6 + 0.2
    torch.testing.assert_close(halves[0], 1.5 * k**2 + 0.2)
    variance = k.diagonal()
    torch.testing.assert_close(
        square[0], 1.5 * (variance.outer(variance) + 2 * k**2) + 0.2, rtol=1e-10, atol=1e-10
    )


def test_a_function_of_a_range_belongs_to_the_range() -> None:
    one = kernels(lambda h: torch.relu(h)[:, :4] * h[:, :4])
    two = kernels(lambda h: (torch.relu(h) * h)[:, 4:])
    for first, second in zip(one, two, strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    "output", [lambda h: h.squeeze(-1), lambda h: h[:, 0], lambda h: h.view(-1), torch.squeeze]
)
def test_the_only_output_without_its_dimension(output) -> None:
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    flat = nn.Sequential(*plain, Elementwise(output))
    one, two = (ff.infinite_width(model, 1.5, 0.2).ntk(X) for model in (plain, flat))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda h: h[:, :4] * h[:, 2:6], "overlap"),
        (lambda h: h[:2, :4], "Rows must stay apart"),
        (lambda h: h[:, ::2], "steps of 1"),
        (lambda h: h[torch.tensor([0, 1])], "Rows must stay apart"),
        (lambda h: h[:, 99], "out of bounds"),
        (lambda h: h.split(4, dim=0)[0], "last dimension"),
        (lambda h: h.squeeze(0), "last dimension"),
    ],
)
def test_refused(function, match) -> None:
    with pytest.raises(UnsupportedOperation, match=match):
        kernels(function)


def test_a_layer_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(
        SettingsError, match=r"'second' \(Linear\): the layer takes 3 features.* has 2"
    ):
        ff.infinite_width(Gated()).ntk(X[:, :5])
