"""What every rule must satisfy; a new layer or activation costs one line in the table."""

import pytest
import torch
from networks import Elementwise, Postnorm, Residual, stack
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield import kernel as kernel_module


def uniform_norm() -> nn.Module:
    model = stack(1, lambda: Elementwise(lambda u: u * u), "before")
    nn.init.constant_(model[1].weight, -1.5)
    nn.init.constant_(model[1].bias, 0.3)
    return model


FAST = {
    "relu": lambda: stack(2, nn.ReLU),
    "leaky relu": lambda: stack(2, nn.LeakyReLU),
    "abs": lambda: stack(2, lambda: Elementwise(torch.abs)),
    "erf": lambda: stack(2, lambda: Elementwise(torch.erf)),
    "gelu": lambda: stack(2, nn.GELU),
    "sin": lambda: stack(2, lambda: Elementwise(torch.sin)),
    "cos": lambda: stack(2, lambda: Elementwise(torch.cos)),
    "wave with a phase": lambda: stack(2, lambda: Elementwise(lambda u: torch.sin(u + 0.7))),
    "relu squared": lambda: stack(2, lambda: Elementwise(lambda u: torch.relu(u) ** 2)),
    "relu cubed": lambda: stack(1, lambda: Elementwise(lambda u: torch.relu(u) ** 3)),
    "relu to the fourth": lambda: stack(1, lambda: Elementwise(lambda u: torch.relu(u) ** 4)),
    "signed square": lambda: stack(1, lambda: Elementwise(lambda u: u * u.abs())),
    "square": lambda: stack(1, lambda: Elementwise(torch.square)),
    "cubic": lambda: stack(1, lambda: Elementwise(lambda u: u**3 - 3.0 * u + 0.5)),
    "bump": lambda: stack(2, lambda: Elementwise(lambda u: torch.exp(-0.5 * u * u))),
    "norm before exp": lambda: stack(1, lambda: Elementwise(torch.exp), "before"),
    "norm after relu squared": lambda: stack(
        1, lambda: Elementwise(lambda u: torch.relu(u) ** 2), "after"
    ),
    "norm before quadratic": lambda: stack(
        2, lambda: Elementwise(lambda u: 0.5 * u * u + u - 1.0), "before"
    ),
    "norm with a gain and a bias": uniform_norm,
    "prelu, a slope for each unit": lambda: stack(2, lambda: nn.PReLU(4, init=0.25)),
    "identity": lambda: stack(2, nn.Identity),
    "norm before relu": lambda: stack(2, nn.ReLU, "before"),
    "norm after relu": lambda: stack(2, nn.ReLU, "after"),
    "norm before gelu": lambda: stack(2, nn.GELU, "before"),
    "norm after gelu": lambda: stack(2, nn.GELU, "after"),
    "norm before sin": lambda: stack(1, lambda: Elementwise(torch.sin), "before"),
    "norm on the input": lambda: nn.Sequential(
        nn.LayerNorm(3, elementwise_affine=False), stack(1, nn.ReLU)
    ),
    "residual": Residual,
    "postnorm": Postnorm,
}
SLOW = {
    "sign": lambda: stack(1, lambda: Elementwise(torch.sign)),
    "tanh": lambda: stack(1, nn.Tanh),
    "elu, norm after": lambda: stack(1, nn.ELU, "after"),
    "silu by hand": lambda: stack(1, lambda: Elementwise(lambda u: u * torch.sigmoid(u))),
    "hardswish": lambda: stack(1, nn.Hardswish),
}


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=[*FAST, *SLOW])
def any_limit(request: pytest.FixtureRequest):
    model = {**FAST, **SLOW}[request.param]().eval()
    return ff.infinite_width(model, weight_var=2.0, bias_var=0.1)


@pytest.fixture(params=FAST)
def limit(request: pytest.FixtureRequest):
    return ff.infinite_width(FAST[request.param]().eval(), weight_var=2.0, bias_var=0.1)


def test_symmetric_semidefinite_with_exact_diagonal(any_limit, x) -> None:
    x = torch.cat([x[:3], x[:1], x[1:2] + 1e-7])
    for matrix, diagonal in zip(any_limit(x), any_limit.diagonal(x), strict=True):
        assert torch.equal(matrix, matrix.T)
        assert torch.equal(matrix.diagonal(), diagonal)
        values = torch.linalg.eigvalsh(matrix)
        assert values[0] >= -1e-12 * values[-1]
        assert matrix.isfinite().all()


def test_two_batches_and_tiles_agree_with_one(limit, x, monkeypatch) -> None:
    whole = limit(x)
    monkeypatch.setattr(kernel_module, "_LONGEST_SIDE", 2)
    for matrix, tiled, apart in zip(whole, limit(x), limit(x, x.clone()), strict=True):
        torch.testing.assert_close(tiled, matrix, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(apart, matrix, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(limit.ntk(x[:5], x[2:]), whole[1][:5, 2:], rtol=1e-13, atol=1e-13)
    assert limit.nngp(x[:0], x).shape == (0, 6)


def test_single_precision(limit, x) -> None:
    for exact, rough in zip(limit(x), limit(x.float()), strict=True):
        assert rough.dtype == torch.float32
        size = exact.diagonal().sqrt().outer(exact.diagonal().sqrt())
        assert ((rough.double() - exact).abs() / size).max() <= 2e-6


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_huge_and_tiny_inputs_are_finite(limit, x, scale) -> None:
    for matrix in limit(torch.cat([x, -x, 0 * x[:1]]) * scale):
        assert not matrix.isnan().any()
        assert matrix.isfinite().all()


def test_gradients_in_the_inputs(limit, x) -> None:
    first, second = x[:2].clone().requires_grad_(), x[2:4].clone().requires_grad_()
    # Along random directions, which a wrong entry of the Jacobian does not escape.
    torch.autograd.gradcheck(
        lambda a, b: limit(a, b), (first, second), atol=1e-7, rtol=1e-5, fast_mode=True
    )


def test_gradients_are_finite_at_equal_and_zero_inputs(limit, x) -> None:
    batch = torch.cat([x[:2], x[:1], -x[:1], 0 * x[:1]]).requires_grad_()
    for matrix in limit(batch, torch.cat([x[:2], 0 * x[:1]])):
        (gradient,) = torch.autograd.grad(matrix.sum(), batch, retain_graph=True)
        assert gradient.isfinite().all()


def test_gradients_in_the_variances(x) -> None:
    model = stack(2, nn.ReLU, "before")

    def kernels(weight_var: torch.Tensor, bias_var: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return ff.infinite_width(model, weight_var=weight_var, bias_var=bias_var)(x[:2], x[2:4])

    variances = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.5, 0.2)]
    torch.autograd.gradcheck(kernels, variances)


def test_single_precision_at_1e30_behind_a_norm() -> None:
    limit = ff.infinite_width(stack(2, nn.ReLU, "before"), weight_var=2.0, bias_var=0.1)
    x = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.4, 2.0]])
    torch.testing.assert_close(limit.ntk(x * 1e30), limit.ntk(x * 1e10), rtol=1e-5, atol=1e-5)


def test_square_of_relu_is_the_arc_cosine_kernel_of_degree_two(x) -> None:
    model = stack(1, lambda: Elementwise(lambda u: torch.relu(u) ** 2))
    k = x[:3] @ x[:3].T / 3 + 0.1
    size = k.diagonal().outer(k.diagonal())
    c = (k / size.sqrt()).clamp(-1, 1)
    theta = torch.acos(c)
    # Cho and Saul (2009), J2; E[phi phi'] = r1^2 r2^2 J2 / (2 pi).
    j2 = 3 * torch.sin(theta) * c + (torch.pi - theta) * (1 + 2 * c * c)
    value = ff.infinite_width(model, weight_var=1.0, bias_var=0.1).nngp(x[:3])
    torch.testing.assert_close(value, size * j2 / (2 * torch.pi) + 0.1, rtol=1e-10, atol=1e-10)


def test_gaussian_bump(x) -> None:
    model = stack(1, lambda: Elementwise(lambda u: torch.exp(-(u**2))))
    k = x[:3] @ x[:3].T / 3 + 0.1
    wide = 1 + 2 * k.diagonal()
    expected = (wide.outer(wide) - 4 * k * k).rsqrt()
    value = ff.infinite_width(model, weight_var=1.0, bias_var=0.1).nngp(x[:3])
    torch.testing.assert_close(value, expected + 0.1, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (nn.ReLU, lambda: Elementwise(F.relu)),
        (nn.ReLU, lambda: nn.ReLU(inplace=True)),
        (nn.ReLU, lambda: Elementwise(lambda u: u.relu())),
        (nn.ReLU, lambda: Elementwise(lambda u: 0.5 * (u + abs(u)))),
        (nn.GELU, lambda: Elementwise(lambda u: u * 0.5 * (1 + torch.erf(u / 2**0.5)))),
        (nn.ReLU, lambda: Elementwise(lambda u: u.clamp(min=0))),
        (nn.ReLU6, lambda: Elementwise(lambda u: torch.relu(u).clamp_max(6.0))),
        (nn.Softplus, lambda: Elementwise(lambda u: F.softplus(u))),
        (nn.Hardtanh, lambda: Elementwise(lambda u: (F.relu(u + 1) - F.relu(u - 1)) - 1)),
    ],
)
def test_spellings_of_one_function_agree(one, two, x) -> None:
    kernels = [
        ff.infinite_width(stack(1, activation), weight_var=2.0, bias_var=0.1)(x[:3])
        for activation in (one, two)
    ]
    for first, second in zip(*kernels, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-11)
