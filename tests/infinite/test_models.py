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


def with_norms(model: nn.Sequential, gain: float, bias: float) -> nn.Sequential:
    for module in model:
        if isinstance(module, nn.LayerNorm):
            nn.init.constant_(module.weight, gain)
            nn.init.constant_(module.bias, bias)
    return model


def rms_after_relu(width: int, gain: float) -> nn.Sequential:
    """The sign of the gain decides how the mean and the shift behind it add up."""
    norm = nn.RMSNorm(width)
    nn.init.constant_(norm.weight, gain)
    shift = Elementwise(lambda h: h + 0.5)
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), norm, shift, nn.Linear(width, 1))


def uneven_norm() -> nn.LayerNorm:
    norm = nn.LayerNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
        norm.bias.copy_(torch.tensor([0.1, 0.0, -0.3]))
    return norm.requires_grad_(False)


@pytest.mark.parametrize(
    "build",
    [
        Residual,
        Postnorm,
        lambda width: stack(2, nn.ReLU, "after", width=width),
        lambda width: stack(2, nn.GELU, "before", width=width),
        lambda width: stack(2, nn.Tanh, "after", width=width),
        lambda width: stack(2, lambda: Elementwise(torch.cos), "before", width=width),
        lambda width: nn.Sequential(
            nn.LayerNorm(3, elementwise_affine=False), stack(1, nn.ReLU, width=width)
        ),
        lambda width: stack(2, lambda: nn.PReLU(width, init=0.3), width=width),
        lambda width: stack(1, lambda: nn.PReLU(width, init=-0.5), "after", width=width),
        lambda width: with_norms(stack(2, nn.ReLU, "before", width=width), -1.5, 0.4),
        lambda width: with_norms(stack(2, nn.GELU, "after", width=width), -0.7, 0.4),
        lambda width: with_norms(stack(1, nn.ReLU, "after", width=width), 0.0, 0.4),
        lambda width: stack(1, lambda: Elementwise(lambda u: u * torch.relu(u)), width=width),
        lambda width: stack(1, lambda: Elementwise(lambda u: 0.2 * u**3 - u), width=width),
        lambda width: stack(2, lambda: Elementwise(lambda u: torch.exp(-u * u)), width=width),
        lambda width: rms_after_relu(width, -0.7),
        lambda width: nn.Sequential(uneven_norm(), stack(1, nn.ReLU, width=width)),
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


def test_a_model_that_changes_is_read_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    limit = ff.infinite_width(model)
    model[2] = nn.Linear(4, 1).double()
    with torch.no_grad():
        model[0].bias.fill_(2.0)
    for one, two in zip(limit(X), ff.infinite_width(model)(X), strict=True):
        assert torch.equal(one, two)


def test_variances_that_are_refused() -> None:
    model = ff.mlp(3, [4], 1)
    with pytest.raises(SettingsError, match="weight_var names '1'"):
        ff.infinite_width(model, weight_var={"1": 2.0})
    with pytest.raises(SettingsError, match="at least 0"):
        ff.infinite_width(model, bias_var=-1.0)


@pytest.mark.parametrize(
    "activation",
    [
        torch.relu,
        lambda u: torch.relu(u) ** 3,
        lambda u: u**3 - 3 * u + 1,
        lambda u: torch.exp(-u * u),
        lambda u: torch.exp(0.3 * u),
        lambda u: torch.sin(u + 1),
    ],
)
def test_positions_and_flatten(activation) -> None:
    # A weight shared along positions: their kernels are averaged by the flatten.
    function = Elementwise(activation)
    model = nn.Sequential(nn.Linear(3, 8), function, nn.Flatten(), nn.Linear(16, 1)).double()
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
    refused(Elementwise(lambda x: x @ torch.ones(3, 3).double()), "not a parameter of the model")
    for parameter in ("weight", "bias"):
        norm = nn.LayerNorm(4)
        with torch.no_grad():
            getattr(norm, parameter)[0] = 2.0
        refused(nn.Sequential(nn.Linear(3, 4), norm), f"{parameter}' differs.*initialisation")
    refused(nn.Sequential(nn.Linear(3, 4), nn.PReLU()), "units share.*stays random")
    refused(nn.PReLU(3), "raw input")
    uneven = nn.PReLU(4)
    with torch.no_grad():
        uneven.weight[0] = 0.5
    refused(nn.Sequential(nn.Linear(3, 4), uneven), "several slopes")
    # Here the slopes belong to the positions, and all units share them.
    sequence = nn.Sequential(nn.Linear(3, 4), nn.PReLU(2), nn.Flatten(), nn.Linear(8, 1))
    with pytest.raises(UnsupportedOperation, match="units share"):
        ff.infinite_width(sequence, 1.5, 0.2).ntk(X[None].float())


def test_why_a_shared_trained_slope_is_refused() -> None:
    # What the slopes add to the tangent kernel, for one hidden layer, in 300 random networks:
    # the spread vanishes with the width if each unit has its slope, and stays if they share it.
    seed = torch.Generator().manual_seed(0)
    spreads = {}
    for width in (64, 1024):
        first = torch.randn(300, 3, width, dtype=torch.float64, generator=seed)
        last = torch.randn(300, 1, width, dtype=torch.float64, generator=seed) / width**0.5
        gradients = last * (X @ first).clamp(max=0.0)  # of the slope of each unit: (300, 2, width)
        single, shared = gradients.square().sum(-1), gradients.sum(-1).square()
        spreads[width] = single.std(0), shared.std(0)
        expected = 0.5 * X.square().sum(1)  # E[min(u, 0)^2]
        for values in (single, shared):
            assert ((values.mean(0) - expected).abs() <= 4 * values.std(0) / 300**0.5).all()
    assert (spreads[1024][0] <= 0.4 * spreads[64][0]).all()  # (64 / 1024)^(1/2) = 0.25
    assert (spreads[1024][1] >= 0.7 * spreads[64][1]).all()


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


class Own(nn.Module):
    """A linear layer written by hand, in either orientation of its matrix."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        shape = (8, 3) if transposed else (3, 8)
        self.weight = nn.Parameter(torch.full(shape, 2.0, dtype=torch.float64))
        self.bias = nn.Parameter(torch.full((8,), 0.5, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.T if self.weight.shape[0] == 8 else self.weight
        return x @ weight * 3**-0.5 + self.bias


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_a_linear_layer_written_by_hand(transposed, parameterization) -> None:
    last = nn.Linear(8, 1).double()
    own = nn.Sequential(Own(transposed), nn.ReLU(), last)
    same = nn.Sequential(nn.Linear(3, 8).double(), nn.ReLU(), last)
    # Entries of 2 have the variance 4; the scale of 3^-1/2 makes it a weight_var of 4.
    limits = [
        ff.infinite_width(own, {"2": 1.5}, {"2": 0.1}, parameterization=parameterization),
        ff.infinite_width(same, {"0": 4.0, "2": 1.5}, {"0": 0.25, "2": 0.1}, parameterization),
    ]
    one, two = (limit.nngp(X) for limit in limits)
    torch.testing.assert_close(one, two, rtol=1e-14, atol=1e-14)
    one, two = (limit.ntk(X) for limit in limits)
    if parameterization == "standard":  # the scale counts: x / 3^1/2 instead of x is multiplied
        assert (one.diagonal() < two.diagonal()).all()
    else:
        torch.testing.assert_close(one, two, rtol=1e-14, atol=1e-14)


def test_products_with_parameters_that_are_refused() -> None:
    class Product(nn.Module):
        def __init__(self, function, *shape: int) -> None:
            super().__init__()
            self.first, self.function = nn.Linear(3, 4), function
            self.weight = nn.Parameter(torch.ones(*shape))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.function(self.first(x), self.weight)

    refused(Product(lambda h, w: h * (2.0 * w), 4), "only gains of norms")
    refused(Product(lambda h, w: h + w, 1), "one entry for each unit")
    refused(Product(lambda h, w: h @ (w * 2.0), 4, 4), "computed from something")
    refused(Product(lambda h, w: h @ h.relu(), 1), "not drawn at random")
    with pytest.raises(SettingsError, match="takes 5 features; what reaches it has 4"):
        ff.infinite_width(Product(torch.matmul, 5, 2)).ntk(X)
