"""Quadrature rules against integrals known in closed form."""

import math

import pytest
import torch

from farfield.infinite.duals.nodes import gauss, gauss_hermite, tanh_sinh


@pytest.mark.parametrize("rule", [gauss(20), gauss(48), tanh_sinh(48), tanh_sinh(100)])
def test_smooth_integrals(rule) -> None:
    assert (rule.fine @ torch.exp(rule.x)).item() == pytest.approx(math.e - 1, rel=1e-13)
    assert (rule.coarse @ torch.exp(rule.x)).item() == pytest.approx(math.e - 1, rel=1e-8)
    torch.testing.assert_close(rule.x + rule.rest, torch.ones_like(rule.x), rtol=0, atol=1e-15)
    assert rule.x.min() > 0


def test_tanh_sinh_is_nested() -> None:
    rule = tanh_sinh(48)
    assert (rule.coarse == 0).sum() == len(rule.x) // 2


def test_gauss_is_exact_for_polynomials_of_its_degree() -> None:
    rule = gauss(8)
    for degree in range(16):
        exact = 1 / (degree + 1)
        assert (rule.fine @ rule.x**degree).item() == pytest.approx(exact, rel=1e-14)
    assert abs((rule.fine @ rule.x**16).item() - 1 / 17) > 1e-12


def test_the_coarse_gauss_rule_shows_what_the_nodes_cannot_resolve() -> None:
    rule = gauss(8)
    for degree in range(6):
        assert (rule.coarse @ rule.x**degree).item() == pytest.approx(1 / (degree + 1), rel=1e-14)
    # A kink inside: the difference of the rules is larger than the error of the fine one.
    values, exact = (rule.x - 0.3).abs(), (0.3**2 + 0.7**2) / 2
    error = abs((rule.fine @ values).item() - exact)
    assert error <= abs(((rule.fine - rule.coarse) @ values).item()) <= 0.1


def test_tanh_sinh_takes_singular_ends() -> None:
    rule = tanh_sinh(100)
    assert (rule.fine @ rule.x.rsqrt()).item() == pytest.approx(2.0, rel=1e-7)
    assert (rule.fine @ rule.x.log()).item() == pytest.approx(-1.0, rel=1e-12)


def test_gauss_hermite_is_exact_for_moments_of_a_normal_variable() -> None:
    rule = gauss_hermite(8)
    for degree in range(16):
        exact = 0 if degree % 2 else math.prod(range(1, degree, 2))
        size = (rule.fine @ rule.x.abs() ** degree).item()
        assert abs((rule.fine @ rule.x**degree).item() - exact) <= 1e-13 * size
        if degree < 6:
            assert abs((rule.coarse @ rule.x**degree).item() - exact) <= 1e-12 * size
    assert abs((rule.coarse @ rule.x**7 - rule.fine @ rule.x**7).item()) > 1.0
