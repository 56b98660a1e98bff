"""Phases against quadrature in many digits, published values, and the maps themselves."""

import math

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

import farfield as ff
from farfield.errors import SettingsError, UnsupportedOperation

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()

# Smooth functions and their slopes; Gauss-Hermite with 120 nodes has ten digits of them.
SMOOTH = {
    "tanh": (np.tanh, lambda u: 1 - np.tanh(u) ** 2),
    "sigmoid": (lambda u: 1 / (1 + np.exp(-u)), lambda u: np.exp(-u) / (1 + np.exp(-u)) ** 2),
}


def maps(name, weight_var, bias_var):
    """The maps of variance and correlation, and chi, by Gauss-Hermite quadrature."""
    phi, slope = SMOOTH[name]

    def variance(q):
        return weight_var * WEIGHTS @ phi(q**0.5 * NODES) ** 2 + bias_var

    def pair(function, q, c):
        u = q**0.5 * NODES[:, None]
        v = q**0.5 * (c * NODES[:, None] + (1 - c * c) ** 0.5 * NODES[None, :])
        return WEIGHTS @ (function(u) * function(v)) @ WEIGHTS

    def correlation(q, c):
        return (weight_var * pair(phi, q, c) + bias_var) / q

    def contraction(q, c):
        return weight_var * pair(slope, q, c)

    return variance, correlation, contraction


@pytest.mark.parametrize(
    ("name", "weight_var", "bias_var"),
    [("tanh", 2.5, 0.05), ("tanh", 1.3, 0.2), ("tanh", 3.0, 0.0), ("sigmoid", 1.0, 0.1)],
)
def test_fixed_points_are_those_of_iterated_maps(name, weight_var, bias_var):
    variance, correlation, contraction = maps(name, weight_var, bias_var)
    q, c = 1.0, 0.3
    for _ in range(300):
        q = variance(q)
    for _ in range(400):
        c = min(correlation(q, c), 1.0)
    found = ff.theory.phase(name, weight_var, bias_var)
    assert found.variance == pytest.approx(q, rel=1e-8)
    assert found.chi == pytest.approx(contraction(q, 1.0), rel=1e-8)
    assert found.correlation == pytest.approx(c, abs=1e-7)
    assert found.correlation_scale == pytest.approx(
        -1 / math.log(contraction(q, found.correlation)), rel=1e-6
    )
    step = 1e-4 * q
    growth = (variance(q + step) - variance(q - step)) / (2 * step)
    assert found.variance_scale == pytest.approx(-1 / math.log(abs(growth)), rel=1e-5)
    assert found.name == ("chaotic" if found.chi > 1 else "ordered")
    assert (found.correlation < 1) == (found.name == "chaotic")


@pytest.mark.parametrize(
    ("activation", "bias_var", "published"),
    [
        ("relu", 0.0, 2.0),  # He et al. (2015); Hayou et al. (2019): the only point, (2, 0)
        ("tanh", 0.0, 1.0),  # Poole et al. (2016)
        ("tanh", 0.05, 1.76),  # Schoenholz et al. (2017), figure 5, to three digits
        (nn.LeakyReLU(0.2), 0.0, 2 / 1.04),  # He et al. (2015), equation 15
        ("identity", 0.0, 1.0),
        (torch.erf, 0.0, math.pi / 4),  # 1 / erf'(0)^2
    ],
)
def test_published_edges_of_chaos(activation, bias_var, published):
    assert ff.theory.critical_weight_var(activation, bias_var) == pytest.approx(
        published, rel=1e-3 if bias_var else 1e-9
    )


@pytest.mark.parametrize(("activation", "bias_var"), [("tanh", 0.3), ("gelu", 0.5)])
def test_the_edge_is_where_chi_is_one(activation, bias_var):
    edge = ff.theory.critical_weight_var(activation, bias_var)
    on, above, below = (
        ff.theory.phase(activation, edge * factor, bias_var, start=5.0)
        for factor in (1.0, 1.01, 0.99)
    )
    assert on.chi == pytest.approx(1.0, abs=1e-8)
    assert on.correlation_scale > 1e6
    assert above.name == "chaotic"
    assert below.name == "ordered"


def test_erf_in_closed_form():
    # E[erf(u)^2] = (2 / pi) asin(2 q / (1 + 2 q)), E[erf'(u)^2] = (4 / pi) / sqrt(1 + 4 q).
    weight_var, bias_var = mpmath.mpf(2), mpmath.mpf("0.3")
    q = mpmath.findroot(
        lambda q: weight_var * 2 / mpmath.pi * mpmath.asin(2 * q / (1 + 2 * q)) + bias_var - q, 1
    )
    found = ff.theory.phase(torch.erf, 2.0, 0.3)
    assert found.variance == pytest.approx(float(q), rel=1e-12)
    assert found.chi == pytest.approx(
        float(weight_var * 4 / mpmath.pi / mpmath.sqrt(1 + 4 * q)), rel=1e-12
    )


def test_relu_in_closed_form():
    ordered = ff.theory.phase("relu", 1.5, 0.1)
    assert ordered.variance == pytest.approx(0.1 / 0.25, rel=1e-12)
    assert ordered.chi == pytest.approx(0.75)
    assert ordered.variance_scale == pytest.approx(-1 / math.log(0.75))
    assert ordered.correlation_scale == pytest.approx(-1 / math.log(0.75))
    critical = ff.theory.phase("relu", 2.0, start=7.0)
    assert (critical.name, critical.variance, critical.correlation) == ("critical", 7.0, 1.0)
    assert critical.correlation_scale == math.inf
    chaotic = ff.theory.phase("relu", 2.5, 0.1)
    assert (chaotic.name, chaotic.variance, chaotic.variance_scale) == ("chaotic", math.inf, None)
    assert chaotic.chi == pytest.approx(1.25)


def test_signals_that_die_out():
    found = ff.theory.phase("tanh", 0.9)
    assert (found.name, found.variance, found.correlation) == ("ordered", 0.0, None)
    assert found.chi == pytest.approx(0.9)
    at_the_edge = ff.theory.phase("tanh", 1.0)
    assert (at_the_edge.name, at_the_edge.variance) == ("critical", 0.0)


@pytest.mark.parametrize("name", ["relu", "gelu", "silu"])
def test_the_fixed_variance_is_that_of_deep_infinite_networks(name):
    found = ff.theory.phase(name, 1.0, 0.3)
    model = ff.mlp(1, [4] * 20, 1, activation=name)
    nngp = ff.infinite_width(model, weight_var=1.0, bias_var=0.3).nngp
    # 20 layers come to within exp(-20 / xi_q), and xi_q is below 2 here.
    assert found.variance_scale < 2.0
    x = torch.tensor([[1.0]], dtype=torch.float64)
    assert float(nngp.diagonal(x)) == pytest.approx(found.variance, rel=1e-4)


def test_what_is_no_activation_is_refused(as_users_run_it):
    with pytest.raises(SettingsError, match="'relo' is unknown"):
        ff.theory.phase("relo", 1.0)
    with pytest.raises(SettingsError, match="not a function of each entry"):
        ff.theory.phase(lambda x: torch.ones(2), 1.0)
    with pytest.raises(UnsupportedOperation, match="softmax"):
        ff.theory.phase(nn.Softmax(-1), 1.0)
    with pytest.raises(SettingsError, match="weight_var is -1"):
        ff.theory.phase("relu", -1.0)
    with pytest.raises(SettingsError, match="start is 0"):
        ff.theory.phase("relu", 1.0, start=0.0)
    with pytest.raises(SettingsError, match=r"no slope|no edge"):
        ff.theory.critical_weight_var(torch.sign)
    with pytest.raises(SettingsError, match=r"no edge of chaos at bias_var 0\.1"):
        ff.theory.critical_weight_var("gelu", 0.1)


def test_a_module_is_left_as_it_was():
    module = nn.PReLU(init=0.2).train()
    assert ff.theory.critical_weight_var(module) == pytest.approx(2 / 1.04)
    assert module.training
    assert module.weight.requires_grad
