"""Dual activations: closed forms against quadrature, quadrature against mpmath."""

import math
import warnings

import mpmath as mp
import pytest
import torch
from reference import expect, expect_pair
from torch.nn import functional as F  # noqa: N812

from farfield.errors import AccuracyWarning
from farfield.infinite.duals.affine import Affine
from farfield.infinite.duals.compose import crossings
from farfield.infinite.duals.error_function import Erf
from farfield.infinite.duals.gelu import Gelu
from farfield.infinite.duals.numeric import Numeric
from farfield.infinite.duals.rectified import Rectified, Step
from farfield.infinite.duals.stretched import stretched
from farfield.infinite.duals.waves import Wave
from farfield.infinite.gram import Gram, of_vectors

CLOSED = {
    "relu": (Rectified(0.0, 1.0), torch.relu),
    "leaky": (Rectified(-0.4, 2.0), lambda u: torch.where(u < 0, -0.4 * u, 2.0 * u)),
    "erf": (Erf(), torch.erf),
    "gelu": (Gelu(), F.gelu),
    "sin": (Wave(sine=True), torch.sin),
    "cos": (Wave(sine=False), torch.cos),
    "affine": (Affine(Gelu(), -2.0, 0.3), lambda u: 0.3 - 2.0 * F.gelu(u)),
    "stretched": (stretched(Gelu(), -1.5), lambda u: F.gelu(-1.5 * u)),
}


@pytest.fixture
def rows() -> torch.Tensor:
    x = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return torch.cat([x, -x[:1], x[:1] * 1.3, x[:1] + 1e-5])


@pytest.mark.parametrize("scale", [1e-2, 0.3, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_agree_with_quadrature(name, scale, rows) -> None:
    closed, function = CLOSED[name]
    if name in ("sin", "cos") and scale > 1:
        pytest.skip("a wave over hundreds of periods is no task for quadrature")
    numeric = Numeric(function, closed.kinks, name)
    pair = of_vectors(rows * scale, rows * (1.1 * scale))
    for what in ["moments", "slopes", "gains"]:
        one, two = getattr(closed, what)(pair), getattr(numeric, what)(pair)
        size = two.left.max() * two.right.max()
        assert (one.values() - two.values()).abs().max() <= (
            1e-10 if scale > 3 else 1e-11
        ) * size, what
    torch.testing.assert_close(closed.mean(pair.left), numeric.mean(pair.left), rtol=0, atol=1e-12)


def logistic(u: float) -> float:
    return 1 / (1 + math.exp(-u))


BY_QUADRATURE = {
    "tanh": (torch.tanh, math.tanh, lambda u: 1 - math.tanh(u) ** 2, ()),
    "silu": (
        F.silu,
        lambda u: u * logistic(u),
        lambda u: logistic(u) * (1 + u * logistic(-u)),
        (),
    ),
    "elu": (
        F.elu,
        lambda u: u if u > 0 else math.expm1(u),
        lambda u: 1.0 if u > 0 else math.exp(u),
        (0.0,),
    ),
    "hardswish": (
        F.hardswish,
        lambda u: u * min(max(u + 3, 0), 6) / 6,
        lambda u: 0.0 if u < -3 else 1.0 if u > 3 else (2 * u + 3) / 6,
        (-3.0, 3.0),
    ),
}


@pytest.mark.parametrize("name", BY_QUADRATURE)
def test_quadrature_agrees_with_scipy(name) -> None:
    function, f, df, kinks = BY_QUADRATURE[name]
    numeric = Numeric(function, kinks, name)
    k11, k12, k22 = 1.3, 0.7, 2.1
    pair = _pair(k11, k12, k22)
    for what, g in [("moments", f), ("slopes", df), ("gains", lambda u: u * df(u))]:
        values = getattr(numeric, what)(pair)
        exact = expect_pair(g, k11, k12, k22, kinks)
        assert values.values().item() == pytest.approx(exact, rel=1e-11), what
        square = expect(lambda u, g=g: g(u) ** 2, k11, kinks)
        assert values.left.square().item() == pytest.approx(square, rel=1e-11), what
    assert numeric.mean(pair.left).item() == pytest.approx(
        expect(f, k11, kinks), rel=1e-11, abs=1e-13
    )


def test_step_against_the_orthant_probability(rows) -> None:
    pair = of_vectors(rows, rows)
    values = Step(0.0, 1.0).moments(pair).values()
    expected = 0.25 + torch.asin(pair.cosine.clamp(-1, 1)) / (2 * math.pi)
    torch.testing.assert_close(values, expected, rtol=0, atol=2e-8)  # asin of a rounded cosine
    assert (Step(-1.0, 1.0).slopes(pair).values() == 0).all()


@pytest.mark.parametrize("function", ["erf", "gelu", "sin"])
@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-7])
def test_the_gap_of_smooth_functions_keeps_its_digits(function, distance) -> None:
    # 1 - cos of phi at two close angles, against the closed forms in 60 digits.
    closed, _ = CLOSED[function]
    r1, r2, theta = 1.2, 1.2 * (1 + 0.5 * distance), distance
    pair = Gram(
        *(torch.tensor([r], dtype=torch.float64) for r in (r1, r2)),
        *(
            torch.tensor([[v]], dtype=torch.float64)
            for v in (math.cos(theta), 2 * math.sin(theta / 2) ** 2, 2 * math.cos(theta / 2) ** 2)
        ),
    )
    with mp.workdps(60):
        exact = _exact_gap(function, mp.mpf(r1), mp.mpf(r2), mp.mpf(theta))
    got = closed.moments(pair).apart.item()
    # What matters is the angle, sqrt(2 gap): to 1e-11 absolutely.
    assert abs(math.sqrt(2 * got) - math.sqrt(2 * float(exact))) <= 1e-11


def test_a_function_that_bends_unexpectedly_warns(rows) -> None:
    numeric = Numeric(lambda u: torch.relu(u - 0.37), (), "a hidden kink")
    with pytest.warns(AccuracyWarning, match="hidden kink"):
        numeric.slopes(of_vectors(rows[:2], rows[:2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Numeric(lambda u: torch.relu(u - 0.37), (0.37,), "kink").slopes(of_vectors(rows, rows))


def test_crossings() -> None:
    assert crossings(lambda u: u**3 - 2 * u, 0.0) == pytest.approx(
        [-(2**0.5), 0, 2**0.5], abs=1e-12
    )
    assert crossings(torch.exp, -1.0) == []


def _pair(k11: float, k12: float, k22: float) -> Gram:
    root = math.sqrt(k11 * k22)
    rows = [torch.tensor([k], dtype=torch.float64).sqrt() for k in (k11, k22)]
    pairs = [k12 / root, 1 - k12 / root, 1 + k12 / root]
    return Gram(*rows, *(torch.tensor([[v]], dtype=torch.float64) for v in pairs))


def _exact_gap(function: str, r1: mp.mpf, r2: mp.mpf, theta: mp.mpf) -> mp.mpf:
    def second(a: mp.mpf, c: mp.mpf, b: mp.mpf) -> mp.mpf:
        if function == "erf":
            return 2 / mp.pi * mp.asin(2 * c / mp.sqrt((1 + 2 * a) * (1 + 2 * b)))
        if function == "sin":
            return mp.exp(-(a + b) / 2) * mp.sinh(c)
        wide = (1 + a) * (1 + b)
        delta = mp.sqrt(wide - c**2)
        first = (c**2 + a * b * delta**2) / (wide * delta) + c * mp.atan2(c, delta)
        return first / (2 * mp.pi) + c / 4

    a, b = r1**2, r2**2
    c = r1 * r2 * mp.cos(theta)
    return 1 - second(a, c, b) / mp.sqrt(second(a, a, a) * second(b, b, b))
