"""Quadrature rules against integrals known in closed form."""

import math

import pytest
import torch

from farfield.infinite.duals.nodes import fejer, tanh_sinh


@pytest.mark.parametrize("rule", [fejer(32), fejer(64), tanh_sinh(48), tanh_sinh(100)])
def test_smooth_integrals(rule) -> None:
    assert (rule.fine @ torch.exp(rule.x)).item() == pytest.approx(math.e - 1, rel=1e-13)
    assert (rule.coarse @ torch.exp(rule.x)).item() == pytest.approx(math.e - 1, rel=1e-8)
    torch.testing.assert_close(rule.x + rule.rest, torch.ones_like(rule.x), rtol=0, atol=1e-15)
    assert rule.x.min() > 0
    assert (rule.coarse == 0).sum() == len(rule.x) // 2 + (len(rule.x) % 4 == 3)


def test_fejer_is_exact_for_polynomials_of_its_degree() -> None:
    rule = fejer(16)
    for degree in range(15):
        exact = 1 / (degree + 1)
        assert (rule.fine @ rule.x**degree).item() == pytest.approx(exact, rel=1e-14)


def test_tanh_sinh_takes_singular_ends() -> None:
    rule = tanh_sinh(100)
    assert (rule.fine @ rule.x.rsqrt()).item() == pytest.approx(2.0, rel=1e-7)
    assert (rule.fine @ rule.x.log()).item() == pytest.approx(-1.0, rel=1e-12)
