"""Dual activations: closed forms against quadrature, quadrature against mpmath."""

import math
import warnings

import mpmath as mp
import pytest
import torch
from reference import expect, expect_pair
from torch.nn import functional as F  # noqa: N812

from farfield.errors import AccuracyWarning
from farfield.infinite.angles import Angle, Directions
from farfield.infinite.duals.affine import Affine
from farfield.infinite.duals.base import Activation, RowLaw
from farfield.infinite.duals.compose import crossings
from farfield.infinite.duals.error_function import Erf
from farfield.infinite.duals.gelu import Gelu
from farfield.infinite.duals.numeric import Numeric
from farfield.infinite.duals.rectified import Rectified, Step
from farfield.infinite.duals.stretched import stretched
from farfield.infinite.duals.waves import Wave
from farfield.infinite.pairs import Rows, Vectors

ALL = slice(None)

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


def of_vectors(x1: torch.Tensor, x2: torch.Tensor) -> tuple[Rows, Angle]:
    directions = Directions.of(Vectors(x1, x2))
    return directions.lengths() * x1.shape[1] ** -0.5, directions.tile(ALL, ALL).angle()


def duals(activation: Activation, r: Rows, angle: Angle) -> tuple[RowLaw, dict[str, torch.Tensor]]:
    """What is known of the rows, and the expectations of products of each pair."""
    rows = activation.rows(r)
    law = rows.tile(ALL, ALL)
    return rows, {
        "moments": activation.angle(law, angle).cosine * law.root.outer(),
        "slopes": activation.slope(law, angle) * law.slope_root.outer(),
        "gains": activation.gain(law, angle) * law.gain_root.outer(),
    }


def roots(law: RowLaw) -> dict[str, Rows]:
    return {"moments": law.root, "slopes": law.slope_root, "gains": law.gain_root}


@pytest.mark.parametrize("scale", [1e-2, 0.3, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_agree_with_quadrature(name, scale, rows) -> None:
    closed, function = CLOSED[name]
    if name in ("sin", "cos") and scale > 1:
        pytest.skip("a wave over hundreds of periods is no task for quadrature")
    pairs = of_vectors(rows * scale, rows * (1.1 * scale))
    numeric = Numeric(function, closed.kinks, name)
    (one_law, one), (two_law, two) = duals(closed, *pairs), duals(numeric, *pairs)
    for what, root in roots(one_law).items():
        size = root.left.max() * root.right.max()
        assert (one[what] - two[what]).abs().max() <= (1e-10 if scale > 3 else 1e-11) * size, what
    torch.testing.assert_close(one_law.mean.left, two_law.mean.left, rtol=0, atol=1e-12 * scale)


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
    law, values = duals(numeric, *_pair(k11, k12, k22))
    for what, g in [("moments", f), ("slopes", df), ("gains", lambda u: u * df(u))]:
        exact = expect_pair(g, k11, k12, k22, kinks)
        assert values[what].item() == pytest.approx(exact, rel=1e-11), what
        square = expect(lambda u, g=g: g(u) ** 2, k11, kinks)
        assert roots(law)[what].left.square().item() == pytest.approx(square, rel=1e-11), what
    assert law.mean.left.item() == pytest.approx(expect(f, k11, kinks), rel=1e-11, abs=1e-13)


def test_step_against_the_orthant_probability(rows) -> None:
    r, angle = of_vectors(rows, rows)
    values = duals(Step(0.0, 1.0), r, angle)[1]["moments"]
    expected = 0.25 + torch.asin(angle.cosine.clamp(-1, 1)) / (2 * math.pi)
    torch.testing.assert_close(values, expected, rtol=0, atol=2e-8)  # asin of a rounded cosine
    assert (duals(Step(-1.0, 1.0), r, angle)[1]["slopes"] == 0).all()


@pytest.mark.parametrize("function", ["erf", "gelu", "sin"])
@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-7])
def test_the_gap_of_smooth_functions_keeps_its_digits(function, distance) -> None:
    # 1 - cos of phi at two close angles, against the closed forms in 60 digits.
    closed, _ = CLOSED[function]
    r1, r2, theta = 1.2, 1.2 * (1 + 0.5 * distance), distance
    law = closed.rows(_rows(r1, r2)).tile(ALL, ALL)
    cosine = math.cos(theta), 2 * math.sin(theta / 2) ** 2, 2 * math.cos(theta / 2) ** 2
    cosine, apart, together = (torch.tensor([[v]], dtype=torch.float64) for v in cosine)
    with mp.workdps(60):
        exact = _exact_gap(function, mp.mpf(r1), mp.mpf(r2), mp.mpf(theta))
    got = closed.angle(law, Angle(apart, together, cosine)).apart.item()
    # What matters is the angle, sqrt(2 gap): to 1e-11 absolutely.
    assert abs(math.sqrt(2 * got) - math.sqrt(2 * float(exact))) <= 1e-11


def test_a_function_that_bends_unexpectedly_warns(rows) -> None:
    numeric = Numeric(lambda u: torch.relu(u - 0.37), (), "a hidden kink")
    with pytest.warns(AccuracyWarning, match="hidden kink"):
        duals(numeric, *of_vectors(rows[:2], rows[1:3]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = Numeric(lambda u: torch.relu(u - 0.37), (0.37,), "kink")
        duals(known, *of_vectors(rows, rows))


def test_crossings() -> None:
    assert crossings(lambda u: u**3 - 2 * u, 0.0) == pytest.approx(
        [-(2**0.5), 0, 2**0.5], abs=1e-12
    )
    assert crossings(torch.exp, -1.0) == []


def _rows(r1: float, r2: float) -> Rows:
    return Rows(*(torch.tensor([r], dtype=torch.float64) for r in (r1, r2)))


def _pair(k11: float, k12: float, k22: float) -> tuple[Rows, Angle]:
    cosine = torch.tensor([[k12 / math.sqrt(k11 * k22)]], dtype=torch.float64)
    return _rows(math.sqrt(k11), math.sqrt(k22)), Angle(1 - cosine, 1 + cosine, cosine)


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
