"""Dual activations: closed forms against quadrature, quadrature against mpmath."""

import math
import warnings

import mpmath as mp
import pytest
import torch
from reference import expect, expect_pair
from torch.nn import functional as F

from farfield.errors import AccuracyWarning
from farfield.infinite.angles import Angle
from farfield.infinite.duals.affine import Affine
from farfield.infinite.duals.base import Activation
from farfield.infinite.duals.compose import crossings
from farfield.infinite.duals.error_function import Erf
from farfield.infinite.duals.exponentials import Bump, Exponential
from farfield.infinite.duals.gelu import Gelu
from farfield.infinite.duals.numeric import Numeric
from farfield.infinite.duals.polynomial import Polynomial
from farfield.infinite.duals.powers import Power
from farfield.infinite.duals.rectified import Rectified, Step
from farfield.infinite.duals.stretched import stretched
from farfield.infinite.duals.waves import COSINE, SINE, Wave
from farfield.infinite.gram import of_vectors
from farfield.infinite.pairs import Rows, Vectors

CLOSED = {
    "relu": (Rectified(0.0, 1.0), torch.relu),
    "leaky": (Rectified(-0.4, 2.0), lambda u: torch.where(u < 0, -0.4 * u, 2.0 * u)),
    "erf": (Erf(), torch.erf),
    "gelu": (Gelu(), F.gelu),
    "sin": (SINE, torch.sin),
    "cos": (COSINE, torch.cos),
    "wave": (Wave(-2.0), lambda u: torch.sin(u - 2.0)),
    "relu squared": (Power(2, 0.0, 1.0), lambda u: torch.relu(u) ** 2),
    "cubes": (Power(3, -0.4, 2.0), lambda u: torch.where(u < 0, 0.4 * u**3, 2.0 * u**3)),
    "u |u|": (Power(2, -1.0, 1.0), lambda u: u * u.abs()),
    "relu to the fourth": (Power(4, 0.0, 1.0), lambda u: torch.relu(u) ** 4),
    "quadratic": (Polynomial((-1.0, 1.0, 0.5)), lambda u: 0.5 * u * u + u - 1.0),
    "hermite": (Polynomial((0.0, -3.0, 0.0, 1.0)), lambda u: u**3 - 3.0 * u),
    "constant": (Polynomial((2.0,)), lambda u: 2.0 + 0.0 * u),
    "bump": (Bump(0.7), lambda u: torch.exp(-0.7 * u * u)),
    "exp": (Exponential(), torch.exp),
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
    if name in ("sin", "cos", "wave") and scale > 1:
        pytest.skip("a wave over hundreds of periods is no task for quadrature")
    if name == "exp" and scale >= 1:
        pytest.skip("beyond the nodes of the quadrature")
    numeric = Numeric(function, closed.kinks, name)
    r, angle = pairs_of(rows * scale, rows * (1.1 * scale))
    for what in ["angle", "slope", "gain"]:
        (one, size), (two, _) = dual(closed, what, r, angle), dual(numeric, what, r, angle)
        # Relative to the largest entry; the quadrature of wide Gaussians has fewer digits.
        assert (one - two).abs().max() <= (1e-10 if scale > 3 else 1e-11) * size.max(), what
    size = closed.root(r.left).max().item()
    one, two = closed.mean(r.left), numeric.mean(r.left)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12 * max(1.0, size))


@pytest.mark.parametrize("r", [1e-30, 1e-8, 1e-3, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("ratio", [1.0, 1.0 + 1e-9, 1.001, 3.0])
def test_gelu_keeps_its_digits_near_antipodes(r, ratio) -> None:
    # Small pre-activations see a line: 1 + cos is then as small as that of the inputs.
    rows = Rows(*torch.tensor([[r], [r * ratio]], dtype=torch.float64))

    def moment(r1: mp.mpf, r2: mp.mpf, cosine: mp.mpf) -> mp.mpf:
        p1, p2 = (size / mp.sqrt(1 + size**2) for size in (r1, r2))
        sine = p1 * p2 * cosine
        cofactor = mp.sqrt(1 - sine**2)
        turned = mp.pi - mp.acos(sine) + sine / ((1 + r1**2) * (1 + r2**2) * cofactor)
        return r1 * r2 / (2 * mp.pi) * (p1 * p2 * cofactor + cosine * turned)

    for theta in (1e-12, 1e-8, 1e-4, 0.1, 1.0):
        together = torch.full((1, 1), 2.0 * math.sin(theta / 2) ** 2, dtype=torch.float64)
        gelu, angle = Gelu(), Angle(2.0 - together, together, together - 1.0)
        found = gelu.angle(gelu.rows(rows).tile(slice(1), slice(1)), angle).together.item()
        with mp.workdps(150):
            r1, r2 = mp.mpf(rows.left.item()), mp.mpf(rows.right.item())
            size = mp.sqrt(moment(r1, r1, mp.mpf(1)) * moment(r2, r2, mp.mpf(1)))
            exact = 1 + moment(r1, r2, mp.mpf(together.item()) - 1) / size
        assert found == pytest.approx(float(exact), rel=4e-15, abs=0)


def pairs_of(x1: torch.Tensor, x2: torch.Tensor) -> tuple[Rows, Angle]:
    """Standard deviations and angles of the Gaussians that a linear map makes of two batches."""
    gram = of_vectors(Vectors(x1, x2))
    (directions,) = gram.angle.arguments
    return gram.root, directions.angle()


def dual(
    function: Activation, what: str, r: Rows, angle: Angle
) -> tuple[torch.Tensor, torch.Tensor]:
    """Second moments of phi ("angle"), phi' ("slope") or u phi' ("gain"), and products of roots."""
    law = function.rows(r).tile(slice(None), slice(None))
    result = getattr(function, what)(law, angle)
    root = {"angle": law.root, "slope": law.slope_root, "gain": law.gain_root}[what]
    cosine = result.cosine if isinstance(result, Angle) else result
    return cosine * root.outer(), root.outer()


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
    r, angle = _pair(k11, k12, k22)
    for what, g in [("angle", f), ("slope", df), ("gain", lambda u: u * df(u))]:
        value, _ = dual(numeric, what, r, angle)
        exact = expect_pair(g, k11, k12, k22, kinks)
        assert value.item() == pytest.approx(exact, rel=1e-11), what
        root = getattr(numeric, "root" if what == "angle" else f"{what}_root")(r.left)
        square = expect(lambda u, g=g: g(u) ** 2, k11, kinks)
        assert root.square().item() == pytest.approx(square, rel=1e-11), what
    assert numeric.mean(r.left).item() == pytest.approx(expect(f, k11, kinks), rel=1e-11, abs=1e-13)


def test_step_against_the_orthant_probability(rows) -> None:
    r, angle = pairs_of(rows, rows)
    values, _ = dual(Step(0.0, 1.0), "angle", r, angle)
    expected = 0.25 + torch.asin(angle.cosine.clamp(-1, 1)) / (2 * math.pi)
    torch.testing.assert_close(values, expected, rtol=0, atol=2e-8)  # asin of a rounded cosine
    assert (dual(Step(-1.0, 1.0), "slope", r, angle)[0] == 0).all()


@pytest.mark.parametrize("function", ["erf", "gelu", "sin"])
@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-7])
def test_the_gap_of_smooth_functions_keeps_its_digits(function, distance) -> None:
    # 1 - cos of phi at two close angles, against the closed forms in 60 digits.
    closed, _ = CLOSED[function]
    r1, r2, theta = 1.2, 1.2 * (1 + 0.5 * distance), distance
    r = Rows(*(torch.tensor([r], dtype=torch.float64) for r in (r1, r2)))
    gaps = (2 * math.sin(theta / 2) ** 2, 2 * math.cos(theta / 2) ** 2, math.cos(theta))
    angle = Angle(*(torch.tensor([[gap]], dtype=torch.float64) for gap in gaps))
    with mp.workdps(60):
        exact = _exact_gap(function, mp.mpf(r1), mp.mpf(r2), mp.mpf(theta))
    law = closed.rows(r).tile(slice(None), slice(None))
    got = closed.angle(law, angle).apart.item()
    # What matters is the angle, sqrt(2 gap): to 1e-11 absolutely.
    assert abs(math.sqrt(2 * got) - math.sqrt(2 * float(exact))) <= 1e-11


def test_a_function_that_bends_unexpectedly_warns(rows) -> None:
    numeric = Numeric(lambda u: torch.relu(u - 0.37), (), "a hidden kink")
    with pytest.warns(AccuracyWarning, match="hidden kink"):
        dual(numeric, "slope", *pairs_of(rows[:2], rows[1:3]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numeric = Numeric(lambda u: torch.relu(u - 0.37), (0.37,), "kink")
        dual(numeric, "slope", *pairs_of(rows, rows))


def test_crossings() -> None:
    assert crossings(lambda u: u**3 - 2 * u, 0.0) == pytest.approx(
        [-(2**0.5), 0, 2**0.5], abs=1e-12
    )
    assert crossings(torch.exp, -1.0) == []


def _pair(k11: float, k12: float, k22: float) -> tuple[Rows, Angle]:
    cosine = k12 / math.sqrt(k11 * k22)
    rows = [torch.tensor([k], dtype=torch.float64).sqrt() for k in (k11, k22)]
    values = [torch.tensor([[v]], dtype=torch.float64) for v in (1 - cosine, 1 + cosine, cosine)]
    return Rows(*rows), Angle(*values)


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
