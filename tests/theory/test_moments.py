"""Exact moments of tangent kernels, against networks drawn at random and other derivations."""

import itertools
import math

import pytest
import torch

import farfield as ff
from farfield.errors import SettingsError

# widths, weight_var, bias_var, negative slope, bias, |x|, parametrisation
NETWORKS = [
    ((3, 4, 5, 3, 2), (2.0, 1.5, 2.5, 1.0), (0.1, 0.2, 0.0, 0.3), 0.0, True, 1.3, "standard"),
    ((3, 4, 5, 3, 2), (2.0, 1.5, 2.5, 1.0), (0.1, 0.2, 0.0, 0.3), 0.2, True, 1.3, "ntk"),
    ((2, 6, 6, 6, 1), (2.0, 2.0, 2.0, 2.0), (0.5, 0.5, 0.5, 0.5), 0.0, False, 0.3, "standard"),
    ((2, 6, 6, 6, 1), (1.5, 2.0, 1.5, 2.0), (0.0, 0.0, 0.0, 0.0), -0.5, True, 0.3, "standard"),
]
DRAWS = 40_000
# Six standard errors: the tails of T^2 are heavy, so that its own error is known badly.
WORST = 6.0


def drawn(widths, weight_vars, bias_vars, slope, bias, norm, kind):
    """T(x, x) of many networks, by explicit forward and backward passes."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(DRAWS, *shape, dtype=torch.float64, generator=generator)

    x = torch.full((DRAWS, widths[0]), norm / widths[0] ** 0.5, dtype=torch.float64)
    inputs, slopes, weights = [x], [], []
    for layer, (below, above) in enumerate(itertools.pairwise(widths)):
        weights.append(normal(above, below) * (weight_vars[layer] / below) ** 0.5)
        z = torch.einsum("nij,nj->ni", weights[-1], inputs[-1])
        z = z + normal(above) * bias_vars[layer] ** 0.5
        slopes.append(torch.where(z > 0, 1.0, slope))
        inputs.append(slopes[-1] * z)
    gradient = torch.eye(widths[-1], dtype=torch.float64).expand(DRAWS, -1, -1)
    total = torch.zeros(DRAWS, dtype=torch.float64)
    for layer in reversed(range(len(weights))):
        size = gradient.square().sum((1, 2)) / widths[-1]
        ntk = kind == "ntk"
        total += (
            size
            * inputs[layer].square().sum(1)
            * (weight_vars[layer] / widths[layer] if ntk else 1.0)
        )
        total += size * bias * (bias_vars[layer] if ntk else 1.0)
        if layer:
            back = torch.einsum("nij,nik->njk", weights[layer], gradient)
            gradient = slopes[layer - 1][:, :, None] * back
    return total


@pytest.mark.parametrize("network", NETWORKS)
def test_both_moments_are_those_of_drawn_networks(network):
    widths, weight_vars, bias_vars, slope, bias, norm, kind = network
    moments = ff.theory.ntk_moments(
        widths, weight_vars, bias_vars, bias=bias, negative_slope=slope, input_norm=norm,
        parameterization=kind,
    )  # fmt: skip
    relative = drawn(*network) / moments.mean
    for values, expected in ((relative, 1.0), (relative.square(), moments.dispersion)):
        z = (values.mean() - expected) / (values.std() / DRAWS**0.5)
        assert abs(float(z)) < WORST


@pytest.mark.parametrize("depth", [1, 2, 3])  # L / M = 0.1, 0.2, 0.3
def test_dispersion_is_that_of_gradients_by_autograd(depth):
    width, draws = 10, 6000
    generator = torch.Generator().manual_seed(depth)
    model = ff.mlp(width, [width] * depth, 1).double()
    x = torch.eye(width, dtype=torch.float64)[0]
    drawn = {
        name: torch.randn(draws, *own.shape, dtype=torch.float64, generator=generator)
        * (2.0 / width) ** 0.5
        * (own.ndim > 1)
        for name, own in model.named_parameters()
    }
    gradient = torch.func.grad(lambda own: torch.func.functional_call(model, own, (x,)).sum())
    values = sum(g.square().flatten(1).sum(1) for g in torch.func.vmap(gradient)(drawn).values())
    squares = values.square() / (2.0 * (depth + 1)) ** 2
    expected = ff.theory.dispersion(depth, width, 2.0)
    error = float(squares.std()) / draws**0.5
    assert abs(float(squares.mean()) - expected) < WORST * error
    assert error < 0.1 * (expected - 1.0)  # so that 1, or half of the excess, would be noticed


def test_one_hidden_layer_by_hand():
    # T = sum_i relu(w_i.x)^2 + |x|^2 sum_i v_i^2 1[w_i.x > 0] + sum_i v_i^2 1[.] + 1, and each is
    # a sum of independent terms; with |x| = 1, n0 = 1, M units, s = 2, out of one unit:
    # a_i = relu^2 of N(0, 2): mean 1, second moment 6; b_i = 2 v_i^2 1[.], v_i ~ N(0, 2 / M).
    width = 7
    a1, a2 = 1.0, 6.0
    b1, b2 = 2.0 * (2.0 / width) / 2, 4.0 * 3.0 * (2.0 / width) ** 2 / 2
    ab = 2.0 * (2.0 / width) * a1  # the same mask
    mean = width * (a1 + b1) + 1.0
    one = a2 + b2 + 2 * ab
    second = width * one + width * (width - 1) * (a1 + b1) ** 2 + 2 * width * (a1 + b1) + 1.0
    moments = ff.theory.ntk_moments([1, width, 1], 2.0)
    assert moments.mean == pytest.approx(mean, rel=1e-13)
    assert moments.dispersion == pytest.approx(second / mean**2, rel=1e-13)


def test_linear_networks_without_hidden_layers_never_vary():
    assert ff.theory.ntk_moments([5, 3], 2.0, input_norm=2.0) == ff.theory.NTKMoments(
        math.log(5.0), 1.0
    )


def test_the_mean_is_that_of_the_infinite_width_limit():
    # E[T] of a ReLU network does not depend on the width in the NTK parametrisation.
    model = ff.gaussian_init_(ff.mlp(3, [4, 7, 2], 1), 1.7, 0.3)
    x = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    limit = float(ff.infinite_width(model).ntk.diagonal(x))
    moments = ff.theory.ntk_moments(
        [3, 4, 7, 2, 1], 1.7, 0.3, input_norm=float(x.norm()), parameterization="ntk"
    )
    assert moments.mean == pytest.approx(limit, rel=1e-12)


def test_weights_alone_do_not_know_their_variance():
    values = [ff.theory.dispersion(30, 20, var, bias=False) for var in (1e-3, 1.0, 2.0, 3.5, 1e3)]
    assert values == pytest.approx([values[0]] * 5, rel=1e-10)


def test_a_thousand_layers_stay_in_range():
    moments = ff.theory.ntk_moments([5, *[1000] * 1000, 1], 100.0)
    assert moments.mean == math.inf
    assert moments.log_mean == pytest.approx(1000 * math.log(50.0), rel=0.01)
    assert 1.0 < moments.dispersion < 1e4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([3], 2.0), "input features"),
        (([3, 0, 1], 2.0), "at least 1"),
        (([3, 4, 1], -1.0), "weight_var is -1.0"),
        (([3, 4, 1], 0.0), "above 0"),
        (([3, 4, 1], [2.0]), "1 values for 2 linear layers"),
        (([3, 4, 1], 2.0, float("nan")), "bias_var is nan"),
    ],
)
def test_what_means_nothing_is_refused(arguments, said):
    with pytest.raises(SettingsError, match=said):
        ff.theory.ntk_moments(*arguments)


def test_unknown_options_are_refused():
    with pytest.raises(SettingsError, match=r"input_norm is 0\.0"):
        ff.theory.ntk_moments([3, 4, 1], input_norm=0.0)
    with pytest.raises(SettingsError, match="parameterization is 'mup'"):
        ff.theory.ntk_moments([3, 4, 1], parameterization="mup")
    with pytest.raises(SettingsError, match="negative_slope is inf"):
        ff.theory.ntk_moments([3, 4, 1], negative_slope=math.inf)
