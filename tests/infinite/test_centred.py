"""Norms behind functions that are nearly constant: the covariance must not cancel."""

import mpmath
import pytest
import torch
from networks import Elementwise
from torch import nn
from torch.nn import functional as F

import farfield as ff

X = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
X[1] = -2.0 * X[0]
X[2] = X[0] + 1e-3 * X[3]

# Cov[phi(u), phi(v)] of u, v with variances p, q and covariance c, and E[phi'(u) phi'(v)].
exp, sinh, cosh = mpmath.exp, mpmath.sinh, mpmath.cosh
KNOWN = {
    "cos": (
        torch.cos,
        lambda p, q, c: 2 * exp(-(p + q) / 2) * sinh(c / 2) ** 2,
        lambda p, q, c: exp(-(p + q) / 2) * sinh(c),
    ),
    "exp": (
        torch.exp,
        lambda p, q, c: exp((p + q) / 2) * mpmath.expm1(c),
        lambda p, q, c: exp((p + q) / 2 + c),
    ),
    "sine and a number": (
        lambda u: 3.0 + torch.sin(u),
        lambda p, q, c: exp(-(p + q) / 2) * sinh(c),
        lambda p, q, c: exp(-(p + q) / 2) * cosh(c),
    ),
    "exp by quadrature": (
        lambda u: torch.where(u > 0, torch.exp(u) + 0.0 * torch.tanh(u), torch.exp(u)),
        lambda p, q, c: exp((p + q) / 2) * mpmath.expm1(c),
        lambda p, q, c: exp((p + q) / 2 + c),
    ),
}


def ntk_and_nngp(function, size: float, eps: float):
    norm = nn.LayerNorm(4, eps=eps, elementwise_affine=False)
    model = nn.Sequential(nn.Linear(3, 4), Elementwise(function), norm, nn.Linear(4, 1))
    return ff.infinite_width(model, weight_var=1.5, bias_var=0.0)(size * X)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-5, 1e-15, 1e-30])
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_against_50_digits(name, size, eps) -> None:
    function, covariance, slope = KNOWN[name]
    nngp, ntk = ntk_and_nngp(function, size, eps)
    with mpmath.workdps(300):
        x = [[mpmath.mpf(float(v)) for v in row] for row in size * X]
        w, floor = mpmath.mpf(1.5), mpmath.mpf(eps)

        def k(i, j):
            return w * mpmath.fdot(x[i], x[j]) / 3

        def s(i):
            return mpmath.sqrt(covariance(k(i, i), k(i, i), k(i, i)) + floor)

        for i in range(4):
            for j in range(i + 1):
                pair = k(i, i), k(j, j), k(i, j)
                exact = w * covariance(*pair) / s(i) / s(j)
                tangent = exact + w * k(i, j) * slope(*pair) / s(i) / s(j)
                # The covariance of the original function cancels: errors count beside the roots.
                root = (nngp[i, i] * nngp[j, j]).sqrt().item()
                assert abs(float(nngp[i, j].item() - exact)) <= 1e-12 * root
                root = (ntk[i, i] * ntk[j, j]).sqrt().item()
                assert abs(float(ntk[i, j].item() - tangent)) <= 1e-12 * root
                if i == j:
                    assert abs(float(nngp[i, i].item() / exact - 1)) <= 1e-12


@pytest.mark.parametrize(
    ("function", "slope"),
    [(torch.sigmoid, 0.25), (F.softplus, 0.5), (lambda u: 2.0 - 0.5 * F.silu(u - 1.0), 0.0363)],
)
def test_tiny_inputs_behind_a_norm_look_linear(function, slope) -> None:
    nngp, _ = ntk_and_nngp(function, 1e-20, 1e-5)
    k = 1.5 * (1e-20 * X) @ (1e-20 * X).T / 3
    value = torch.autograd.functional.jacobian(function, torch.zeros((), dtype=torch.float64))
    assert abs(value.abs().item() - slope) < 1e-3
    expected = 1.5 * value**2 * k / 1e-5
    torch.testing.assert_close(nngp, expected, rtol=1e-11, atol=0.0)


def test_sums_of_nearly_constant_units() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.last = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 1)
            self.norm = nn.LayerNorm(4, elementwise_affine=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.sigmoid(self.one(x)) + 2.0 * torch.exp(self.two(x)) + 1.0
            return self.last(self.norm(0.5 * h))

    x = 1e-20 * X
    found = ff.infinite_width(Two(), weight_var=1.5, bias_var=0.0).nngp(x)
    expected = 1.5 * (1 / 64 + 1) * (1.5 * x @ x.T / 3) / 1e-5
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=0.0)
