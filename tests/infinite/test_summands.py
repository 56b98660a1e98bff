"""Trained gains of a part of the units: behind sums, behind biases, behind activations."""

import mpmath
import pytest
import torch
from networks import Elementwise
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.errors import UnsupportedOperation

SEED = torch.Generator().manual_seed(11)
X = torch.randn(5, 3, dtype=torch.float64, generator=SEED)
X[1] = -1.5 * X[0]
X[2] = X[0] + 1e-5 * X[3]

SLOPES = {F.relu: (0.0, 1.0), torch.abs: (-1.0, 1.0), lambda u: F.leaky_relu(u, 0.3): (0.3, 1.0)}


class Sum(nn.Module):
    """A norm with a trained gain, plus something without; nothing else is trained."""

    def __init__(self, activation, width: int = 16) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, width), nn.Linear(3, width)
        self.norm = nn.RMSNorm(width, eps=0.1)
        self.last = nn.Linear(width, 1)
        self.requires_grad_(False)
        self.norm.requires_grad_(True)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.activation(self.norm(self.first(x)) + 0.5 * self.second(x)))


def by_angle(part, whole, below: float, above: float) -> mpmath.mpf:
    """``E[u v phi'(z) phi'(z')]`` in polar coordinates, in 50 digits, for a pair of inputs.

    Given z and z', u and v are Gaussian with known means and covariance; the radius is integrated
    out by hand: ``E[R^2] = 2``.
    """
    (a11, a12, a22), (z11, z12, z22) = part, whole
    root = mpmath.sqrt
    r, s = root(z11), root(z22)
    cosine = z12 / (r * s)
    sine = root(1 - cosine**2)
    inverse = mpmath.matrix([[z22, -z12], [-z12, z11]]) / (z11 * z22 - z12**2)
    u, v = mpmath.matrix([[a11, a12]]) * inverse, mpmath.matrix([[a12, a22]]) * inverse
    rest = a12 - (u * mpmath.matrix([a12, a22]))[0]

    def density(angle):
        z = r * mpmath.cos(angle)
        w = s * (cosine * mpmath.cos(angle) + sine * mpmath.sin(angle))
        slopes = (above if z > 0 else below) * (above if w > 0 else below)
        return slopes * (2 * (u[0] * z + u[1] * w) * (v[0] * z + v[1] * w) + rest)

    crossing = mpmath.atan2(-cosine, sine)  # where w changes sign
    cuts = {-mpmath.pi, -mpmath.pi / 2, mpmath.pi / 2, mpmath.pi, crossing}
    other = crossing + mpmath.pi
    cuts.add(other if other < mpmath.pi else crossing - mpmath.pi)
    pieces = mpmath.quad(density, sorted(cuts))
    return pieces / (2 * mpmath.pi)


@pytest.mark.parametrize("activation", SLOPES)
def test_the_tangent_of_a_gain_behind_a_sum_against_50_digits(activation) -> None:
    found = ff.infinite_width(Sum(activation), weight_var=1.5, bias_var=0.2).ntk(X)
    with mpmath.workdps(50):
        x = [[mpmath.mpf(float(value)) for value in row] for row in X]

        def first(i, j):
            return mpmath.mpf(1.5) * mpmath.fdot(x[i], x[j]) / 3 + mpmath.mpf(0.2)

        def part(i, j):
            scale = [mpmath.sqrt(first(k, k) + mpmath.mpf(0.1)) for k in (i, j)]
            return first(i, j) / scale[0] / scale[1]

        for i in range(5):
            for j in range(i):
                pairs = [(i, i), (i, j), (j, j)]
                a = [part(*pair) for pair in pairs]
                z = [part(*pair) + first(*pair) / 4 for pair in pairs]
                exact = mpmath.mpf(1.5) * by_angle(a, z, *SLOPES[activation])
                # Terms of both signs add up: errors count relative to the roots.
                size = (found[i, i] * found[j, j]).sqrt().item()
                assert abs(float(found[i, j].item() - exact)) <= 1e-14 * size


def test_on_the_diagonal_the_slopes_are_squared() -> None:
    found = ff.infinite_width(Sum(F.relu), weight_var=1.5, bias_var=0.2).ntk.diagonal(X)
    k = 1.5 * X.square().mean(-1) + 0.2
    torch.testing.assert_close(found, 1.5 * k / (k + 0.1) / 2, rtol=1e-14, atol=0.0)


class Two(nn.Module):
    """An activation directly on the sum of two norms, whose gains and biases are trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, width), nn.Linear(3, width)
        self.first, self.second = nn.LayerNorm(width), nn.RMSNorm(width)
        self.last = nn.Linear(width, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(self.left(x)) + 0.7 * self.second(self.right(x))
        return self.last(F.relu(h))


def test_sums_of_norms_against_finite_networks() -> None:
    options = {"weight_var": 1.5, "bias_var": 0.2}
    model = Two(192).double()
    drawn = ff.monte_carlo(
        model, X[:3], draws=25, generator=torch.Generator().manual_seed(5), **options
    )
    exact = ff.infinite_width(model, **options)(X[:3])
    for name, kernel in zip(["nngp", "ntk"], exact, strict=True):
        # Twelve entries, half of them different: 4 standard errors, and 1 / width.
        error = 4 * getattr(drawn, f"{name}_error") + kernel.abs() / 192
        assert ((getattr(drawn, name) - kernel).abs() <= error).all()


def test_a_curved_activation_has_an_nngp_only() -> None:
    limit = ff.infinite_width(Sum(torch.tanh), weight_var=1.5, bias_var=0.2)
    assert limit.nngp(X).isfinite().all()
    with pytest.raises(UnsupportedOperation, match="Freeze the norm's weight"):
        limit.ntk(X)
    frozen = Sum(torch.tanh).requires_grad_(False)
    assert not ff.infinite_width(frozen, weight_var=1.5, bias_var=0.2).ntk(X).any()


def test_a_bias_and_what_is_below_it_are_not_independent() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.bias = nn.Linear(3, 4), nn.Parameter(torch.ones(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x)
            return h * (h + self.bias)

    with pytest.raises(UnsupportedOperation, match="same random map"):
        ff.infinite_width(Twice(), weight_var=1.0, bias_var=0.1).nngp(X)


def test_a_norm_forgets_a_number_that_all_units_have() -> None:
    def model(shift: float) -> nn.Module:
        layers = [nn.Linear(3, 8), nn.LayerNorm(8), Elementwise(lambda h: h + shift)]
        return nn.Sequential(*layers, nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 1))

    one, other = (ff.infinite_width(model(s), weight_var=1.5, bias_var=0.2) for s in (0.0, 0.7))
    torch.testing.assert_close(one.ntk(X), other.ntk(X), rtol=1e-13, atol=0.0)
