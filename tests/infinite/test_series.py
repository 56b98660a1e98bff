"""Hermite series, and what replaces them for nearly equal inputs, against other integrals."""

import math

import mpmath as mp
import pytest
import torch
from reference import expect_pair
from torch.nn import functional as F

from farfield.infinite.duals.hermite import Expansion, coefficients
from farfield.infinite.duals.near import is_near, near_expectation
from farfield.infinite.duals.nodes import tanh_sinh
from farfield.infinite.duals.polar import Pairs, expectation, pair_expectation
from farfield.infinite.duals.series import LENGTHS, Series, expand
from farfield.infinite.pairs import Rows, Vectors

FUNCTIONS = {
    "tanh": (torch.tanh, ()),
    "softplus": (F.softplus, (20.0,)),
    "elu": (F.elu, (0.0,)),
    "hardtanh": (F.hardtanh, (-1.0, 1.0)),
    "hardshrink": (F.hardshrink, (-0.5, 0.5)),
}
ALL = slice(None)


def uniform(low: float, high: float, *shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=generator)


def root(function, r: torch.Tensor, kinks) -> torch.Tensor:
    square = expectation(lambda u: function(u).square(), r, kinks, tanh_sinh(200))
    return square.value.sqrt()


def pairs(r1: torch.Tensor, r2: torch.Tensor, theta: torch.Tensor) -> Pairs:
    return Pairs(
        r1.expand_as(theta).flatten(),
        r2.expand_as(theta).flatten(),
        theta.flatten(),
        math.pi - theta.flatten(),
    )


@pytest.mark.parametrize("r", [0.01, 1.3, 40.0])
def test_coefficients_of_a_step_and_a_ramp(r) -> None:
    # a_k = density(k / r) h_(k-1)(k / r) / sqrt(k) for a step at k; a_(k-1) r / sqrt(k) of its
    # integral. mpmath's Hermite polynomials share nothing with the recurrence.
    cut = 0.7 * min(r, 1.0)
    row = torch.tensor([r], dtype=torch.float64)
    step = coefficients(lambda u: (u > cut).to(u), row, (cut,), 200)
    ramp = coefficients(lambda u: torch.relu(u - cut), row, (cut,), 200)
    x = mp.mpf(cut) / mp.mpf(r)
    for k in (1, 2, 7, 50, 199):
        hermite = mp.hermite(k - 1, x / mp.sqrt(2)) * mp.mpf(2) ** (-mp.mpf(k - 1) / 2)
        exact = mp.npdf(x) * hermite / mp.sqrt(mp.factorial(k - 1) * k)
        assert abs(step.values[0, k].item() - float(exact)) <= 2e-15, k
        if k < 199:
            shift = float(exact) * r / math.sqrt(k + 1)
            assert abs(ramp.values[0, k + 1].item() - shift) <= 2e-15 * r, k
    assert step.error.item() <= 1e-14


def test_coefficients_know_what_they_cannot_resolve() -> None:
    r = torch.tensor([1.0], dtype=torch.float64)
    hidden = coefficients(lambda u: (u - 0.37).abs(), r, (), 64)
    known = coefficients(lambda u: (u - 0.37).abs(), r, (0.37,), 64)
    difference = (hidden.values - known.values).norm().item()
    assert known.error.item() <= 1e-14
    assert 1e-9 < difference <= hidden.error.item() <= 1e-2
    beyond = coefficients(lambda u: torch.exp(6.0 * u), r, (), 64)  # E[exp(6 u)^2] = exp(72)
    assert beyond.error.item() <= 1e-13 * math.exp(36.0)  # reached by looking further
    assert coefficients(lambda u: torch.exp(20.0 * u), r, (), 64).error.item() > 1.0


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("widest", [0.3, 3.0, 50.0])
def test_the_bound_of_a_series_bounds_its_error(name, widest) -> None:
    function, kinks = FUNCTIONS[name]
    r1, r2 = (uniform(0.2 * widest, widest, 4, seed=seed) for seed in (1, 2))
    theta = math.pi * uniform(0.0, 1.0, 4, 4, seed=3)
    theta[0] *= 0.1
    series = expand(function, Rows(r1, r2), roots := rows_of(function, r1, r2, kinks), kinks)
    exact = pair_expectation(
        function, pairs(r1[:, None], r2, theta), kinks, tanh_sinh(72 if len(kinks) > 1 else 140)
    ).value.reshape(4, 4)
    exact = exact / (roots.left[:, None] * roots.right).clamp_min(1e-300)
    tile = series.tile(ALL, ALL)
    for tolerance in (1e-13, 1e-3):
        value, bound = tile.sum(torch.cos(theta), tolerance)
        # The quadrature it is compared with is good to 1e-11 at these angles.
        assert ((value - exact).abs() <= bound + 1e-11).all()
    # Truncated on purpose: the bound alone must do, and it must not be empty either.
    for length, number in [(16, 0), (64, 2)]:
        short = Series(
            first(series.terms, length), first(series.tails, number + 1), series.error
        ).tile(ALL, ALL)
        value, bound = short.sum(torch.cos(theta), 0.0)
        assert ((value - exact).abs() <= bound + 1e-11).all()
        assert (bound <= 1.0).all()


def first(vectors, count: int):
    return type(vectors)(vectors.left[..., :count], vectors.right[..., :count])


def rows_of(function, r1: torch.Tensor, r2: torch.Tensor, kinks) -> Rows:
    return Rows(root(function, r1, kinks), root(function, r2, kinks))


def test_smooth_functions_need_nothing_but_the_series() -> None:
    # Up to a variance of 10 and for all angles, tanh is within 1e-12 of its roots.
    r = torch.tensor([0.01, 1.0, 10**0.5], dtype=torch.float64)
    series = expand(torch.tanh, Rows(r, r), rows_of(torch.tanh, r, r, ()), ()).tile(ALL, ALL)
    for cosine in (-1.0, -0.99, 0.0, 0.9, 0.999, 1.0):
        _, bound = series.sum(torch.full((3, 3), cosine, dtype=torch.float64), 1e-13)
        assert bound.max() <= 2e-13


def test_a_series_against_scipy() -> None:
    k11, k12, k22 = 2.0, -1.1, 0.7
    r = [torch.tensor([k], dtype=torch.float64).sqrt() for k in (k11, k22)]
    cosine = torch.tensor([[k12 / math.sqrt(k11 * k22)]], dtype=torch.float64)
    one = Rows(torch.ones_like(r[0]), torch.ones_like(r[1]))
    value, bound = expand(torch.atan, Rows(*r), one, ()).tile(ALL, ALL).sum(cosine, 1e-13)
    assert value.item() == pytest.approx(expect_pair(math.atan, k11, k12, k22, ()), abs=1e-13)
    assert bound.item() > 0  # against a root of one, the tails are not those of a unit vector


def test_equal_rows_are_expanded_once() -> None:
    calls = []

    def counted(u: torch.Tensor) -> torch.Tensor:
        calls.append(len(u))
        return torch.tanh(u)

    r = torch.full((50,), 0.8, dtype=torch.float64)
    series = expand(counted, Rows(r, r), Rows(r, r), ())
    assert max(calls) == 1
    assert series.terms.left is series.terms.right
    assert series.terms.left.shape == (50, series.terms.left.shape[-1])
    assert series.terms.left.shape[-1] <= LENGTHS[-1]


def test_gradients_of_series() -> None:
    # hardshrink jumps: the gradient in r is that of the integral, not of the slope at the nodes.
    r = torch.tensor([0.8, 2.0], dtype=torch.float64, requires_grad=True)

    def expansion(r: torch.Tensor) -> torch.Tensor:
        found = coefficients(F.hardshrink, r.detach(), (-0.5, 0.5), 22)
        return Expansion.apply(r, found.values)

    assert torch.autograd.gradcheck(expansion, (r,), atol=1e-8)
    terms = uniform(-1.0, 1.0, 2, 3, 16, seed=4).requires_grad_()
    others = uniform(-1.0, 1.0, 2, 2, 16, seed=5).requires_grad_()
    cosine = uniform(-0.9, 0.9, 2, 3, 2, seed=6).requires_grad_()

    def total(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        tails = Vectors(torch.ones(2, 3, 1).double(), torch.ones(2, 2, 1).double())
        none = Rows(torch.zeros(2, 3, 1), torch.zeros(2, 1, 2))
        return Series(Vectors(a, b), tails, none).sum(c, 0.0)[0]

    assert torch.autograd.gradcheck(total, (terms, others, cosine))
    powers = torch.stack([cosine**k for k in range(16)])
    plain = torch.einsum("pik,pjk,kpij->pij", terms, others, powers)
    torch.testing.assert_close(total(terms, others, cosine), plain, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("widest", [0.5, 3.0, 30.0])
def test_nearly_equal_pairs(name, widest) -> None:
    function, kinks = FUNCTIONS[name]
    r1, r2 = (uniform(0.3 * widest, widest, 9, seed=seed) for seed in (7, 8))
    r2[::2] = r1[::2] * (1.0 + 1e-3)  # so that bends of u and v meet
    theta = uniform(0.0, 1.0, 9, seed=9) * min(0.2, 0.3 / widest)
    theta[:3] *= 1e-3
    theta[-3:] = math.pi - theta[-3:]
    some = pairs(r1, r2, theta)
    some = some.take(is_near(some, kinks))
    assert len(some.left) >= 3
    found = near_expectation(function, some, kinks)
    rule = tanh_sinh(100 if len(kinks) > 1 else 140)
    exact = pair_expectation(function, some, kinks, rule).value
    size = root(function, some.left, kinks) * root(function, some.right, kinks)
    # Good to all digits; the quadrature in two dimensions is good to 1e-11 where it is hard.
    assert ((found.value - exact).abs() <= 1e-11 * size).all()
    assert ((found.change / size) ** 1.5 <= 1e-8).all()


def test_pairs_that_are_not_near() -> None:
    r = torch.tensor([1.0, 1.0, 30.0, 1.0, 1.0], dtype=torch.float64)
    theta = torch.tensor([1e-3, 0.6, 0.1, math.pi - 1e-3, 0.1], dtype=torch.float64)
    assert is_near(pairs(r, r, theta), (0.0,)).tolist() == [True, False, False, True, True]
    # Two bends so close that the neighbourhoods of both overlap.
    assert is_near(pairs(r, r, theta), (0.0, 1.0)).tolist() == [True, False, False, True, False]


def test_the_step_at_nearly_equal_pairs() -> None:
    # P(u > 0, v > 0) = 1/2 - theta / (2 pi): to some roundings of the panels' sums.
    theta = torch.tensor([1e-9, 1e-4, 0.1], dtype=torch.float64)
    r = torch.ones_like(theta)
    found = near_expectation(lambda u: (u > 0).to(u), pairs(r, 1.7 * r, theta), (0.0,))
    expected = 0.5 - theta / (2 * math.pi)
    torch.testing.assert_close(found.value, expected, rtol=0, atol=1e-14)


def test_near_quadrature_shows_a_bend_it_was_not_told_of() -> None:
    theta = torch.tensor([0.05, math.pi - 0.05], dtype=torch.float64)
    some = pairs(torch.ones_like(theta), torch.ones_like(theta), theta)
    known = near_expectation(lambda u: 1.0 + (u > 0.37).to(u), some, (0.37,)).value
    hidden = near_expectation(lambda u: 1.0 + (u > 0.37).to(u), some, ())
    assert ((hidden.value - known).abs() <= hidden.change).all()
    assert (hidden.change > 1e-4).all()
