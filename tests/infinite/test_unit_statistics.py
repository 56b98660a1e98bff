"""Norms written out by hand are the norms of PyTorch."""

import pytest
import torch
from networks import Elementwise
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.errors import UnsupportedOperation

X = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(21))
WIDTH = 6


def kernels(*layers: nn.Module, x: torch.Tensor = X):
    model = nn.Sequential(nn.Linear(3, WIDTH), *layers, nn.Linear(WIDTH, 1)).double()
    return ff.infinite_width(model, weight_var=1.5, bias_var=0.2)(x)


class Root(nn.Module):
    """RMSNorm as language models write it."""

    def __init__(self, width: int, eps: float = 1e-3) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Layer(nn.Module):
    def __init__(self, width: int, eps: float = 1e-3, spelling: str = "var") -> None:
        super().__init__()
        self.weight, self.eps, self.spelling = nn.Parameter(torch.ones(width)), eps, spelling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        if self.spelling == "var":
            scale = torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + self.eps)
        elif self.spelling == "std":
            scale = (x.std(-1)[:, None] ** 2 + self.eps).sqrt()
        else:
            scale = torch.hypot(torch.linalg.vector_norm(centred, dim=-1, keepdim=True), self.floor)
        return self.weight * (centred / scale)

    @property
    def floor(self) -> torch.Tensor:
        """The norm of as many units is larger by the root of their number."""
        return torch.tensor((self.eps * len(self.weight)) ** 0.5, dtype=torch.float64)


def frozen_bias(norm: nn.LayerNorm) -> nn.LayerNorm:
    norm.bias.requires_grad_(False)
    return norm


def by_pow(h: torch.Tensor) -> torch.Tensor:
    centred = h - h.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-3) ** 0.5


def by_square(h: torch.Tensor) -> torch.Tensor:
    mean = torch.mean(h, 1)[:, None]
    return (h - mean) * torch.rsqrt(torch.square(h - mean).mean(-1)[:, None] + 1e-3)


def by_product(h: torch.Tensor) -> torch.Tensor:
    centred = h - h.mean(-1, keepdim=True)
    return centred / ((centred * centred).sum(-1, keepdim=True) / h.shape[-1] + 1e-3).sqrt()


def by_var_mean(h: torch.Tensor) -> torch.Tensor:
    var, mean = torch.var_mean(h, dim=-1, keepdim=True, correction=0)
    return (h - mean) / torch.sqrt(var + 1e-3)


def by_std_mean(h: torch.Tensor) -> torch.Tensor:
    std, mean = torch.std_mean(h, -1)
    return (h - mean[:, None]) / torch.sqrt(std[:, None].square() + 1e-3)


@pytest.mark.parametrize("norm", [by_pow, by_square, by_product, by_var_mean, by_std_mean])
@pytest.mark.parametrize("activation", [nn.Identity, nn.ReLU])
def test_spellings_of_layer_norm(norm, activation) -> None:
    known = nn.LayerNorm(WIDTH, eps=1e-3, elementwise_affine=False)
    for one, two in zip(
        kernels(activation(), Elementwise(norm)), kernels(activation(), known), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=0.0)


def test_a_mean_as_a_sum_over_the_number_of_units() -> None:
    def by_sum(h: torch.Tensor) -> torch.Tensor:
        mean = h.sum(-1, keepdim=True) / h.shape[-1]
        return (h - mean) / (((h - mean) ** 2).sum(-1, keepdim=True) / h.size(-1) + 1e-3).sqrt()

    known = nn.LayerNorm(WIDTH, eps=1e-3, elementwise_affine=False)
    for one, two in zip(
        kernels(nn.ReLU(), Elementwise(by_sum)), kernels(nn.ReLU(), known), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=0.0)


def test_a_norm_of_squares_and_nothing_else_of_them() -> None:
    model = Elementwise(lambda h: (h - h.mean(-1, keepdim=True)) ** 2)
    with pytest.raises(UnsupportedOperation, match="square of units that are not Gaussian"):
        kernels(nn.ReLU(), model)


def test_the_sum_of_units_with_mean_zero_is_random() -> None:
    with pytest.raises(UnsupportedOperation, match="the sum of units with mean zero"):
        kernels(nn.Tanh(), Elementwise(lambda h: h - h.sum(-1, keepdim=True) / WIDTH))


@pytest.mark.parametrize("function", [lambda h: h.norm(dim=-1), lambda h: h.sum(-1)])
def test_sums_over_units_as_outputs_have_no_tangent_kernel(function) -> None:
    # Their gradients grow with the width: on 400 units T is about 400 E[phi' phi'] K and not 0.
    model = nn.Sequential(nn.Linear(3, 400), nn.ReLU(), Elementwise(function)).double()
    limit = ff.infinite_width(model, weight_var=1.5, bias_var=0.2)
    seed = torch.Generator().manual_seed(3)
    drawn = ff.monte_carlo(model, X[:2], draws=5, weight_var=1.5, bias_var=0.2, generator=seed)
    torch.testing.assert_close(limit.nngp(X[:2]), drawn.nngp, rtol=0.1, atol=0.0)
    assert drawn.ntk[0, 0] > 0.1
    with pytest.raises(UnsupportedOperation, match="grows with the width"):
        limit.ntk(X[:2])


@pytest.mark.parametrize("activation", [nn.Identity, nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("after", [nn.Identity, nn.GELU])
@pytest.mark.parametrize(
    ("mine", "known"),
    [
        (Root, lambda: nn.RMSNorm(WIDTH, eps=1e-3)),
        (Layer, lambda: frozen_bias(nn.LayerNorm(WIDTH, eps=1e-3))),
        (
            lambda width: Layer(width, spelling="std"),
            lambda: frozen_bias(nn.LayerNorm(WIDTH, eps=1e-3)),
        ),
    ],
)
def test_a_norm_by_hand(mine, known, activation, after) -> None:
    if after is nn.GELU and activation is not nn.Identity:
        return  # a norm after an activation must not be followed by another one
    if activation is nn.Identity:
        first, second = (), (after(),)
    else:
        first, second = (activation(),), ()
    for one, two in zip(
        kernels(*first, mine(WIDTH), *second), kernels(*first, known(), *second), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=0.0)


def test_a_norm_by_the_euclidean_norm() -> None:
    by_norm = Layer(WIDTH, spelling="norm").double().requires_grad_(False)
    by_norm.weight.data.fill_(WIDTH**0.5)
    known = nn.LayerNorm(WIDTH, eps=1e-3, elementwise_affine=False)
    for one, two in zip(kernels(by_norm, nn.ReLU()), kernels(known, nn.ReLU()), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=0.0)


def test_normalize_is_rms_norm_without_the_number_of_units() -> None:
    unit = Elementwise(lambda h: WIDTH**0.5 * F.normalize(h, dim=-1))
    known = nn.RMSNorm(WIDTH, eps=0.0, elementwise_affine=False)
    for one, two in zip(kernels(unit, nn.ReLU()), kernels(known, nn.ReLU()), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h - h.mean(),
        lambda h: h - h.mean(0),
        lambda h: h / h.norm(1, -1, True),
        lambda h: h / h.sum(-1, keepdim=True),
        lambda h: h / h.abs().max(-1, keepdim=True).values,
    ],
)
def test_what_does_not_average_out_is_refused(function) -> None:
    with pytest.raises(UnsupportedOperation):
        kernels(Elementwise(function))


class Scaled(nn.Module):
    """A number for each input multiplies units: a feature, and a mean over the units."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, width), nn.Linear(3, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.5))
        self.last = nn.Linear(width, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x[:, :1] * self.one(x) + self.gamma * self.two(x)
        return self.last(F.relu(h) * h.std(-1, keepdim=True))


def test_a_number_for_each_input_against_finite_networks() -> None:
    options = {"weight_var": 1.5, "bias_var": 0.2}
    model = Scaled(256).double()
    seed = torch.Generator().manual_seed(5)
    drawn = ff.monte_carlo(model, X[:3], draws=25, generator=seed, **options)
    exact = ff.infinite_width(model, **options)(X[:3])
    for name, kernel in zip(["nngp", "ntk"], exact, strict=True):
        error = 4 * getattr(drawn, f"{name}_error") + 2 * kernel.abs() / 256
        assert ((getattr(drawn, name) - kernel).abs() <= error).all()


def test_a_layer_scale_is_a_gain() -> None:
    class LayerScale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.full((WIDTH,), 0.1))

        def forward(self, h: torch.Tensor) -> torch.Tensor:
            return self.gamma * h

    k = 1.5 * X @ X.T / 3 + 0.2
    nngp, ntk = kernels(LayerScale())
    torch.testing.assert_close(nngp, 1.5 * 0.01 * k + 0.2)
    torch.testing.assert_close(ntk, nngp + 1.5 * (0.01 * k + k))


def test_means_are_exact_where_they_are_zero() -> None:
    huge = 1e150 * X
    for one, two in zip(
        kernels(Elementwise(lambda h: h - h.mean(-1, keepdim=True)), nn.ReLU(), x=huge),
        kernels(nn.ReLU(), x=huge),
        strict=True,
    ):
        assert torch.equal(one, two)
