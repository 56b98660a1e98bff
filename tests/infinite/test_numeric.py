"""Functions without a closed form: all ways of computing them, seen from outside."""

import math
import warnings

import pytest
import torch
from networks import Elementwise, stack
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.errors import AccuracyWarning, SettingsError
from farfield.infinite.angles import Angle
from farfield.infinite.duals.nodes import tanh_sinh
from farfield.infinite.duals.numeric import TOLERANCE, Numeric
from farfield.infinite.duals.polar import Pairs, pair_expectation
from farfield.infinite.pairs import Rows

ALL = slice(None)
CASES = {
    "tanh": (torch.tanh, lambda u: 1 - torch.tanh(u) ** 2, ()),
    "silu": (F.silu, lambda u: torch.sigmoid(u) * (1 + u * torch.sigmoid(-u)), ()),
    "elu": (F.elu, lambda u: torch.where(u > 0, 1.0, torch.exp(u.clamp(max=0.0))), (0.0,)),
    "hardswish": (
        F.hardswish,
        lambda u: torch.where(u < -3, 0.0, torch.where(u > 3, 1.0, (2 * u + 3) / 6)),
        (-3.0, 3.0),
    ),
}
NETWORKS = {
    "tanh": lambda: stack(1, nn.Tanh),
    "silu, norm before": lambda: stack(1, nn.SiLU, "before"),
    "elu, norm after": lambda: stack(1, nn.ELU, "after"),
    "hardswish": lambda: stack(1, nn.Hardswish),
    "hardtanh, norm before": lambda: stack(1, nn.Hardtanh, "before"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("variance", "tolerance"), [(1e-4, 1e-12), (1.0, 1e-12), (10.0, 1e-12), (1e4, 1e-10)]
)
def test_every_angle_at_every_width(name, variance, tolerance) -> None:
    # Against quadrature in two dimensions with many nodes and the slopes written out, which is
    # itself good to the tolerance relative to the roots.
    function, slope, kinks = CASES[name]
    if len(kinks) > 1 and variance > 1:
        tolerance = 1e-10
    numeric = Numeric(function, kinks, name)
    r1 = variance**0.5 * torch.tensor([0.5, 1.0], dtype=torch.float64)
    r2 = variance**0.5 * torch.tensor([0.97, 1.0, 0.6], dtype=torch.float64)
    theta = torch.tensor([[1e-3, 0.05, 0.4], [1.3, math.pi - 0.1, 1e-7]], dtype=torch.float64)
    angle = Angle(2 * torch.sin(theta / 2) ** 2, 2 * torch.cos(theta / 2) ** 2, torch.cos(theta))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        law = numeric.rows(Rows(r1, r2)).tile(ALL, ALL)
        found = [
            numeric.second(law, angle), numeric.slope(law, angle), numeric.gain(law, angle)
        ]  # fmt: skip
    pairs = Pairs(r1.repeat_interleave(3), r2.repeat(2), theta.flatten(), math.pi - theta.flatten())
    rule = tanh_sinh(200 if len(kinks) < 2 else 140)
    roots = (law.root, law.slope_root, law.gain_root)
    functions = (function, slope, lambda u: u * slope(u))
    for got, root, f in zip(found, roots, functions, strict=True):
        exact = pair_expectation(f, pairs, kinks, rule).value.reshape(2, 3) / root.outer()
        assert (got - exact).abs().max() <= tolerance


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_in_the_inputs(name, x) -> None:
    limit = ff.infinite_width(NETWORKS[name]().eval(), weight_var=2.0, bias_var=0.1)
    # A pair at a large angle, one that is near, and one that is nearly antipodal.
    first, second = x[:1].clone(), torch.cat([x[2:3], x[:1] * 1.1 + 0.05, 0.05 - x[:1] * 0.9])
    first, second = first.requires_grad_(), second.requires_grad_()
    torch.autograd.gradcheck(
        lambda a, b: limit(a, b), (first, second), atol=1e-6, rtol=1e-5, fast_mode=True
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_finite_at_equal_and_zero_inputs(name, x) -> None:
    limit = ff.infinite_width(NETWORKS[name]().eval(), weight_var=2.0, bias_var=0.1)
    batch = torch.cat([x[:2], x[:1], -x[:1], 0 * x[:1]]).requires_grad_()
    for matrix in limit(batch, torch.cat([x[:2], 0 * x[:1]])):
        (gradient,) = torch.autograd.grad(matrix.sum(), batch, retain_graph=True)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_half_of_a_symmetric_tile_is_enough(name, x) -> None:
    limit = ff.infinite_width(NETWORKS[name]().eval(), weight_var=2.0, bias_var=0.1)
    close = torch.cat([x, x[:2] + 0.02, 0 * x[:1], -x[:1]])
    for whole, one, two in zip(
        limit(close), limit(close, close.clone()), limit(close, close.flip(0)), strict=True
    ):
        # As close as the rounding of angles between nearly equal inputs allows.
        torch.testing.assert_close(one, whole, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(two.flip(1), whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_single_precision(name, x) -> None:
    limit = ff.infinite_width(NETWORKS[name]().eval(), weight_var=2.0, bias_var=0.1)
    for exact, rough in zip(limit(x), limit(x.float()), strict=True):
        assert rough.dtype == torch.float32
        size = exact.diagonal().sqrt().outer(exact.diagonal().sqrt())
        assert ((rough.double() - exact).abs() / size).max() <= 2e-6


def test_the_tolerance_is_the_users(x) -> None:
    model = stack(1, lambda: Elementwise(lambda u: torch.tanh(1e5 * (u - 0.37))))
    strict = ff.infinite_width(model, weight_var=2.0, bias_var=0.1, tolerance=1e-12)
    with pytest.warns(AccuracyWarning, match="more than 1e-12"):
        strict.nngp(x)
    rough = ff.infinite_width(model, weight_var=2.0, bias_var=0.1, tolerance=0.5)
    assert rough.nngp(x).isfinite().all()
    for tolerance in (0.0, -1.0, 1.0, float("nan")):
        with pytest.raises(SettingsError, match="between 0 and 1"):
            ff.infinite_width(model, tolerance=tolerance)


def test_the_warning_says_what_to_do() -> None:
    hidden = Numeric(lambda u: torch.where(u > 0.37, u, 0.0), (), "my_step")
    r = torch.tensor([1.0], dtype=torch.float64)
    angle = Angle(torch.tensor([[0.01]], dtype=torch.float64))
    with pytest.warns(AccuracyWarning) as caught:
        law = hidden.rows(Rows(r, 2 * r)).tile(ALL, ALL)
    with pytest.warns(AccuracyWarning) as more:
        hidden.second(law, angle)
    for warning in (*caught, *more):
        text = str(warning.message)
        assert "my_step" in text
        assert f"{TOLERANCE:.0e}" in text
        assert "monte_carlo()" in text
        assert "smaller weight_var" in text
    # The widest of the two inputs, at which the jump is missed.
    assert "standard deviation of up to 2:" in str(more[0].message)


@pytest.mark.parametrize("function", [torch.tanh, F.hardtanh, lambda u: u / (1 + u.abs())])
def test_odd_functions_keep_the_angles_of_antipodes(function) -> None:
    # The angle of f(u) and f(-u) is pi, at which the slope kernel of the ReLU behind is zero:
    # an error of 1e-16 in its cosine would be one of 1e-8 there.
    model = nn.Sequential(
        nn.Linear(3, 4), Elementwise(function), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)
    )
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x = x * torch.tensor([[1.0], [1e-3], [1e-9], [3.0]], dtype=torch.float64)
    limit = ff.infinite_width(model, weight_var=1.0, bias_var=0.0)
    for kernel in limit(x, -x):
        assert (kernel.diagonal() == 0).all()
    near = -x * (1 + 1e-9 * x.flip(1) / x.norm(dim=1, keepdim=True))
    roots = limit.ntk.diagonal(x)
    assert (limit.ntk(x, near).diagonal() != 0).all()
    assert (limit.ntk(x, near).diagonal().abs() <= 1e-8 * roots).all()


@pytest.mark.parametrize(
    "function",
    [lambda u: torch.tanh(u) + 1e-9 * u**2, F.silu, torch.sigmoid, torch.log],
)
def test_other_functions_are_not_taken_for_odd_ones(function) -> None:
    assert Numeric(torch.tanh, (), "a function").odd
    assert not Numeric(function, (), "a function").odd


def test_bends_tell_that_a_function_is_not_odd() -> None:
    assert Numeric(F.hardtanh, {-1.0, 1.0}, "hardtanh").odd
    assert not Numeric(F.hardtanh, {-1.0, 1.0 + 1e-9}, "hardtanh").odd


@pytest.mark.parametrize(
    "function",
    [lambda u: F.softplus(u) - math.log(2.0), lambda u: 0.5 + torch.tanh(0.5 * u) - 0.5],
)
@pytest.mark.parametrize("size", [1e-4, 1e-7, 1e-10])
def test_a_function_that_is_shifted_to_zero_at_zero_keeps_its_digits(function, size) -> None:
    # Both are u / 2 up to u^2 / 8, so that the kernel is that of u / 2 up to r^2.
    x = size * torch.tensor([[1.0, 2.0], [2.0, -0.5]], dtype=torch.float64)
    model = nn.Sequential(nn.Linear(2, 4), Elementwise(function), nn.Linear(4, 1))
    value = ff.infinite_width(model, weight_var=1.0, bias_var=0.0).nngp(x)
    exact = 0.25 * x @ x.T / 2
    assert ((value - exact).abs() <= (1e-12 + 4 * size**2) * exact.diagonal().max()).all()
