"""Whole models: against finite networks, against hand-made formulas, and what is refused."""

import pytest
import torch
from networks import Elementwise, Postnorm, Residual, stack
from torch import nn

import farfield as ff
from farfield.errors import SettingsError, UnsupportedOperation

X = torch.tensor([[0.7, -1.3, 0.4], [-0.2, 0.9, 1.1]], dtype=torch.float64)


def wide(model_type: type[nn.Module] | object, width: int) -> nn.Module:
    return model_type(width=width).double().eval()


@pytest.mark.parametrize(
    "build",
    [
        Residual,
        Postnorm,
        lambda width: stack(2, nn.ReLU, "after", width=width),
        lambda width: stack(2, nn.GELU, "before", width=width),
        lambda width: stack(2, nn.Tanh, "after", width=width),
        lambda width: stack(2, lambda: Elementwise(torch.cos), "before", width=width),
        lambda width: nn.Sequential(nn.LayerNorm(3), stack(1, nn.ReLU, width=width)),
    ],
)
def test_finite_networks_agree(build) -> None:
    # The concatenation in Residual weighs with the widths, so the limit is of the same model.
    model = wide(build, 192)
    exact = ff.infinite_width(model, weight_var=1.5, bias_var=0.2)(X)
    seed = torch.Generator().manual_seed(3)
    drawn = ff.monte_carlo(model, X, draws=30, weight_var=1.5, bias_var=0.2, generator=seed)
    for value, mean, error in zip(
        exact, (drawn.nngp, drawn.ntk), (drawn.nngp_error, drawn.ntk_error), strict=True
    ):
        # Besides the sampling error, finite networks are off by a few times 1 / width.
        slack = 2.0 / 192 * value.diagonal().sqrt().outer(value.diagonal().sqrt())
        assert ((mean - value).abs() <= 4.0 * error + slack).all()


def test_standard_parametrisation() -> None:
    # T of one layer: (x.x + 1); of two: hidden width * K + 1 + w2 * E[phi' phi'] * T1.
    model = nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 1)).double()
    limit = ff.infinite_width(model, 1.5, 0.2, parameterization="standard")
    q = 1.5 * X.square().sum(1) / 3 + 0.2
    expected = 10 * q / 2 + 1 + 1.5 * 0.5 * (X.square().sum(1) + 1)
    torch.testing.assert_close(limit.ntk.diagonal(X), expected)


def test_frozen_parameters_add_no_tangent() -> None:
    model = nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 1)).double()
    model[0].requires_grad_(False)
    nngp, ntk = ff.infinite_width(model, 1.5, 0.2)(X)
    torch.testing.assert_close(ntk, nngp)
    model[2].requires_grad_(False)
    assert (ff.infinite_width(model, 1.5, 0.2).ntk(X) == 0).all()


def test_where_the_variances_come_from() -> None:
    model = nn.Linear(3, 5).double()
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(0.5)
    product = X @ X.T / 3
    measured = 4.0 * 3 * product + 0.25
    torch.testing.assert_close(ff.infinite_width(model).nngp(X), measured)
    ff.gaussian_init_(model, weight_var=1.7, bias_var=0.3)
    torch.testing.assert_close(ff.infinite_width(model).nngp(X), 1.7 * product + 0.3)
    explicit = ff.infinite_width(model, weight_var={"": 3.0}).nngp(X)
    torch.testing.assert_close(explicit, 3.0 * product + 0.3)


def test_variances_that_are_refused() -> None:
    model = ff.mlp(3, [4], 1)
    with pytest.raises(SettingsError, match="weight_var names '1'"):
        ff.infinite_width(model, weight_var={"1": 2.0})
    with pytest.raises(SettingsError, match="at least 0"):
        ff.infinite_width(model, bias_var=-1.0)


def test_positions_and_flatten() -> None:
    # A weight shared along positions: their kernels are averaged by the flatten.
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1)).double()
    pictures = torch.stack([X, X.flip(0) * 2.0, X - 1.0])
    limit = ff.infinite_width(model, 1.5, 0.2)
    first = ff.infinite_width(model[:2], 1.5, 0.2)
    below = [first(pictures[:, position]) for position in range(2)]
    nngp, ntk = (torch.stack(parts).mean(0) for parts in zip(*below, strict=True))
    torch.testing.assert_close(limit.nngp(pictures), 1.5 * nngp + 0.2)
    torch.testing.assert_close(limit.ntk(pictures), 1.5 * nngp + 0.2 + 1.5 * ntk)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(6, 1)).double()
    torch.testing.assert_close(
        ff.infinite_width(flat, 1.0, 0.0).nngp(pictures),
        pictures.flatten(1) @ pictures.flatten(1).T / 6,
    )


def refused(model: nn.Module, match: str, x: torch.Tensor = X) -> None:
    with pytest.raises(UnsupportedOperation, match=match):
        ff.infinite_width(model, 1.5, 0.2).ntk(x)


def test_what_is_refused_says_why() -> None:
    shared = nn.Linear(3, 3)
    refused(nn.Sequential(shared, nn.ReLU(), shared), "second time.*no longer Gaussian")
    refused(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "Batch statistics")
    refused(nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4)), "Batch statistics")
    refused(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)), "eval")
    refused(nn.Sequential(nn.Linear(3, 4), nn.PReLU()), "requires_grad_")
    refused(stack(1, lambda: nn.Sequential(nn.ReLU(), nn.LayerNorm(4), nn.ReLU())), "not Gaussian")
    refused(nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1)), "softmax")
    refused(Elementwise(lambda x: x @ torch.ones(3, 3).double()), "matmul")
    norm = nn.LayerNorm(4)
    nn.init.constant_(norm.weight, 2.0)
    refused(nn.Sequential(nn.Linear(3, 4), norm), "initialisation")


def test_a_frozen_prelu_is_a_leaky_relu() -> None:
    model = stack(1, lambda: nn.PReLU(init=0.3).requires_grad_(False))
    other = stack(1, lambda: nn.LeakyReLU(0.3))
    values = [ff.infinite_width(m, 1.5, 0.2).ntk(X) for m in (model, other)]
    torch.testing.assert_close(*values, rtol=1e-7, atol=1e-7)  # the slope is a float32 number


def test_monte_carlo_works_without_a_rule() -> None:
    model = nn.Sequential(nn.Linear(3, 16), nn.Softmax(-1), nn.Linear(16, 2))
    seed = torch.Generator().manual_seed(0)
    result = ff.monte_carlo(model, X, X[:1], draws=5, generator=seed)
    assert result.ntk.shape == result.ntk_error.shape == (2, 1)
    assert (result.ntk_error > 0).all()
    with pytest.raises(SettingsError, match="at least 2"):
        ff.monte_carlo(model, X, draws=1)
