"""The limits of depth and width, against integrals, the exact values and each other."""

import math

import numpy as np
import pytest

import farfield as ff
from farfield.errors import SettingsError


def integral(ratio, share, common):
    """The limit by two-dimensional quadrature, given what A_m and B_l have in common."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    nodes, weights = 0.5 * (nodes + 1.0), 0.5 * weights
    v = ratio * nodes[:, None]  # distances from the output, u < v
    u = v * nodes[None, :]

    def over_triangle(values):
        return float(weights @ (nodes[:, None] * values) @ weights)

    weights_alone = over_triangle(np.exp(5 * ratio - 5 * (v - u)) * common(v - u))
    weight_above_bias = over_triangle(np.exp(5 * u) * common(v - u))
    plain = over_triangle(np.exp(5 * u) + 0.0 * v)
    total = 2 * (share**2 * weights_alone + share * (weight_above_bias + plain) + plain)
    return total / (1 + share) ** 2


COMMON = {
    "limit": lambda t: (np.exp(5 * t) + 2 * np.exp(-t)) / 3,
    "published": np.exp,
}


@pytest.mark.parametrize("method", ["limit", "published"])
@pytest.mark.parametrize(("depth", "width"), [(1, 1000), (20, 100), (1, 5), (21, 100), (3, 2)])
@pytest.mark.parametrize("share", [1.0, 0.04, 1e6])
def test_limits_are_their_integrals(method, depth, width, share):
    found = ff.theory.dispersion(depth, width, 2.0, method=method, input_norm=share**0.5)
    assert found == pytest.approx(integral(depth / width, share, COMMON[method]), rel=1e-12)
    if share == 1e6:  # weights are all there is: relative 2e-6 of something of order 1
        alone = ff.theory.dispersion(depth, width, 2.0, False, method=method)
        assert found == pytest.approx(alone, rel=1e-5)
        assert ff.theory.dispersion(depth, width, 3.0, method=method) == alone


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5])
def test_the_published_formula_as_it_is_printed(ratio):
    printed = (math.exp(5 * ratio) * (1 - 1 / (4 * ratio)) + math.exp(ratio) / (4 * ratio)) / (
        2 * ratio
    )
    width = 100
    found = ff.theory.dispersion(round(ratio * width), width, 2.5, method="published")
    assert found == pytest.approx(printed, rel=1e-12)


@pytest.mark.parametrize(("weight_var", "bias"), [(2.0, True), (2.0, False), (3.0, True)])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_exact_values_tend_to_the_limit(weight_var, bias, ratio):
    limit = ff.theory.dispersion(int(100 * ratio), 100, weight_var, bias, method="limit")
    errors = [
        ff.theory.dispersion(int(ratio * width), width, weight_var, bias) / limit - 1.0
        for width in (200, 400, 800)
    ]
    assert abs(errors[2]) < 0.01
    # The error halves with twice the width: it is of order 1 / M.
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=0.05)


def test_the_published_formula_is_not_the_limit():
    # At lambda = 0.5 it is 11 % below what exact values tend to.
    exact = ff.theory.dispersion(1000, 2000, 2.0, False)
    assert exact == pytest.approx(
        ff.theory.dispersion(1000, 2000, 2.0, False, method="limit"), rel=5e-3
    )
    assert ff.theory.dispersion(1000, 2000, 2.0, False, method="published") < 0.9 * exact


def test_the_ordered_phase():
    for method in ("limit", "published"):
        assert ff.theory.dispersion(50, 100, 1.9, method=method) == 1.0
    # The exact values of the same ratio come down to it.
    values = [ff.theory.dispersion(m // 2, m, 1.5) - 1.0 for m in (20, 200, 2000)]
    assert values[0] / values[1] > 9.0
    assert values[1] / values[2] == pytest.approx(10.0, rel=0.1)


def test_measured_values_of_the_notes():
    # Monte Carlo of M = 100, L = 20 without shared code: 1.016, 1.065, 1.65 +- 0.06.
    assert ff.theory.dispersion(20, 100, 1.0) == pytest.approx(1.016, abs=0.002)
    assert ff.theory.dispersion(20, 100, 1.5) == pytest.approx(1.065, abs=0.02)
    assert ff.theory.dispersion(20, 100, 2.0) == pytest.approx(1.65, abs=0.12)


def test_huge_depths_are_infinite_rather_than_wrong():
    for method in ("limit", "published"):
        assert ff.theory.dispersion(1000, 1, 2.0, method=method) == math.inf
    assert ff.theory.dispersion(1, 10**9, 2.0, method="limit") == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((0, 5, 2.0), {}, "depth is 0"),
        ((5, 0, 2.0), {}, "width is 0"),
        ((5, 5, 0.0), {}, "weight_var is 0.0"),
        ((5, 5, 2.0), {"input_norm": math.inf}, "input_norm is inf"),
        ((5, 5, 2.0), {"in_features": 0}, "in_features is 0"),
        ((5, 5, 2.0), {"method": "guess"}, "method is 'guess'"),
    ],
)
def test_what_means_nothing_is_refused(arguments, options, said):
    with pytest.raises(SettingsError, match=said):
        ff.theory.dispersion(*arguments, **options)
