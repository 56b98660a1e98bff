"""Certificates of fitted predictors: constants, bounds that hold, rays, growth, verdicts."""

import math

import numpy as np
import pytest
import torch
from cases import batch, limit
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.errors import AccuracyWarning, SettingsError
from farfield.regression import bounds, cells, certify_fit
from farfield.regression.bounds import bound_forms
from farfield.regression.rays import SCALES, along
from farfield.regression.supremum import supremum
from farfield.regression.worst import search


def papers(norm_at, hidden: int = 2, bias_var: float = 0.01, eps: float = 0.0, features: int = 1):
    """The parametrisation of the paper: weight variance 1 in the first layer, then 2, no affine."""
    norm = None if norm_at is None else "layer"
    model = ff.mlp(features, [8] * hidden, 1, norm=norm, norm_at=norm_at or 0)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for module in model:
        if isinstance(module, nn.LayerNorm):
            module.eps = eps
            module.requires_grad_(False)
    return ff.infinite_width(model, dict(zip(names, [1.0] + [2.0] * hidden, strict=True)), bias_var)


@pytest.mark.parametrize("hidden", [1, 2, 5])
@pytest.mark.parametrize("at", [0, "middle", "last"])
@pytest.mark.parametrize("bias_var", [0.01, 0.7])
def test_the_supremum_is_the_papers_constant(hidden, at, bias_var) -> None:
    place = {0: 0, "middle": hidden // 2, "last": hidden - 1}[at]
    above = hidden - place
    # sup Theta(x, x) = L + 1 + b m (m + 1) / 2 with m = L - h + 1 layers from the norm on.
    expected = hidden + 1 + bias_var * above * (above + 1) / 2
    found = supremum(papers(place, hidden, bias_var).ntk, [1])
    assert found.proven
    assert found.value == pytest.approx(expected, rel=1e-10)
    assert found.attained == pytest.approx(expected, rel=1e-10)


def test_every_layer_normalised_is_constant() -> None:
    s = 0.01
    found = supremum(papers("every", 2, s).ntk, [1])
    assert found.value == pytest.approx((2 + s) / (1 + s) + 1 + s, rel=1e-10)


class Branches(nn.Module):
    """Two residual blocks, the norm inside of a branch or behind the sum."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.inside = inside
        self.first, self.block = nn.Linear(3, 8), nn.Linear(8, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x.flatten(1))
        if self.inside:
            return self.head(F.relu(h + self.block(F.relu(self.norm(h)))))
        return self.head(F.relu(self.norm(h + self.block(F.relu(h)))))


def mlp(**options) -> nn.Module:
    return ff.mlp(3, [8, 8], 1, **options).eval()


BOUNDED = {
    "affine, eps": lambda: mlp(norm="layer", norm_at="last"),
    "after the activation": lambda: mlp(norm="layer", norm_before_activation=False),
    "rms": lambda: mlp(norm="rms", norm_at="first"),
    "leaky relu": lambda: mlp(activation="leaky_relu", norm="layer", norm_at=1),
    "gelu": lambda: mlp(activation="gelu", norm="layer", norm_at="first"),
    "no bias": lambda: mlp(norm="layer", norm_at="last", bias=False),
    "on the raw input": lambda: nn.Sequential(nn.LayerNorm(3, elementwise_affine=False), mlp()),
    "frozen layers": lambda: nn.Sequential(
        nn.Linear(3, 8).requires_grad_(False), nn.LayerNorm(8), nn.ReLU(inplace=True),
        nn.Dropout(0.5), nn.Linear(8, 2),
    ).eval(),
    "norm behind the sum": lambda: Branches(inside=False),
}  # fmt: skip


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
@pytest.mark.parametrize("name", BOUNDED)
def test_no_input_exceeds_a_proven_supremum(name, parameterization) -> None:
    limits = ff.infinite_width(BOUNDED[name](), 1.7, 0.3, parameterization=parameterization)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2000, 3, dtype=torch.float64, generator=generator)
    x *= 10 ** (60 * torch.rand(2000, 1, dtype=torch.float64, generator=generator) - 30)
    for kernel in (limits.ntk, limits.nngp):
        found = supremum(kernel, [3])
        assert found.proven, found.how
        largest = float(kernel.diagonal(x).max())
        assert largest <= found.value
        # It is tight as well; behind a sum, whose parts at infinity are not known, less so.
        assert found.value <= largest * (1.15 if name == "norm behind the sum" else 1 + 1e-3)


def test_cells_bound_what_is_inside_of_them() -> None:
    edges = torch.logspace(-4, 4, 9, dtype=torch.float64)
    inside = edges[:-1] * (edges[1:] / edges[:-1]) ** torch.linspace(0, 1, 6).double()[:, None]
    x = inside.flatten().sqrt()[:, None] * torch.ones(1, 3, dtype=torch.float64)
    for name, make in BOUNDED.items():
        limits = ff.infinite_width(make(), 1.7, 0.3)
        for kernel, values in zip(("nngp", "ntk"), limits.diagonal(x), strict=True):
            tops = cells.cell_bounds(limits, kernel, [3], edges[:-1], edges[1:])
            assert (values.reshape(6, 8) <= tops * (1 + 1e-12)).all(), name


GROWING = {
    "no norm": (lambda: mlp(), 2.0),
    "relu squared": (lambda: nn.Sequential(nn.Linear(3, 8), Square(), nn.Linear(8, 1)), 4.0),
    "norm in a branch": (lambda: Branches(inside=True), 2.0),
}


class Square(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) ** 2


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_is_not_called_bounded(name) -> None:
    make, degree = GROWING[name]
    found = supremum(ff.infinite_width(make(), 1.7, 0.3).ntk, [3])
    assert (found.proven, found.value) == (False, math.inf)
    assert found.degree == pytest.approx(degree, abs=1e-6)


class Summands(nn.Module):
    """A function of the sum of two normalised branches, whose gains are trained."""

    def __init__(self, function) -> None:
        super().__init__()
        self.one, self.other, self.head = nn.Linear(3, 8), nn.Linear(3, 8), nn.Linear(8, 1)
        self.norm_one, self.norm_other = nn.LayerNorm(8), nn.LayerNorm(8)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        units = self.norm_one(self.one(x)) + self.norm_other(self.other(x))
        return self.head(self.function(units))


@pytest.mark.parametrize(("function", "name"), [(F.leaky_relu, "ntk"), (F.gelu, "nngp")])
def test_trained_gains_of_summands(function, name) -> None:
    kernel = getattr(ff.infinite_width(Summands(function), 1.7, 0.3), name)
    found = supremum(kernel, [3])
    assert found.proven
    assert found.attained <= found.value <= found.attained * 1.01


def test_a_kernel_without_a_model_is_only_searched() -> None:
    gaussian = ff.Kernel(
        lambda a, b: torch.exp(-torch.cdist(a, b).square()), lambda a: torch.ones_like(a[:, 0])
    )
    cert = certify_fit(ff.KernelRegression(gaussian, 0.1).fit(batch(9), batch(9, 1)))
    assert cert.bounded is None
    assert cert.growth.degree == math.inf
    assert cert.growth.found is None
    assert cert.bound.largest == math.inf
    assert cert.kernel_bound.value == pytest.approx(1.0)
    assert "Nothing is proven" in cert.reason
    assert cert.worst_found.value <= cert.forms.norm.max()  # it is 1 here, as we know


@pytest.mark.parametrize(
    ("norm_at", "ridge"),
    [("first", 0.0), ("last", 0.0), ("every", 0.0), ("first", 0.1), ("last", 1e4)],
)
def test_the_bounds_hold_and_are_ordered(norm_at, ridge) -> None:
    kernel = limit(norm_at=norm_at).ntk
    x, y = batch(20), batch(20, 2, seed=1)
    fit = ff.KernelRegression(kernel, ridge).fit(torch.cat([x, x[:3]]), torch.cat([y, y[:3]]))
    cert = certify_fit(fit)
    assert cert.bounded is True
    assert cert.growth.degree == 0.0
    assert f"LayerNorm '{1 if norm_at != 'last' else 3}'" in cert.reason
    assert cert.points == 20
    matrix = kernel(x).numpy() + np.diag(ridge / np.array([2] * 3 + [1] * 17))
    smallest = np.linalg.eigvalsh(matrix)[0]
    assert cert.smallest_eigenvalue == pytest.approx(smallest, rel=1e-3)
    forms, top = cert.forms, cert.kernel_bound.value
    a = np.linalg.solve(matrix, y.numpy())
    np.testing.assert_allclose(
        forms.norm, np.sqrt(top * np.einsum("ij,ij->j", a, kernel(x).numpy() @ a)), rtol=1e-6
    )
    largest = y.abs().amax(0)
    np.testing.assert_allclose(forms.root, np.sqrt(20 * top / smallest) * largest, rtol=1e-3)
    np.testing.assert_allclose(forms.linear, 20 * top / smallest * largest, rtol=1e-3)
    assert (forms.norm <= forms.root * (1 + 1e-9)).all()
    if ridge == 0.0:
        assert (forms.root <= forms.linear).all()
    found = cert.worst_found
    assert (cert.bound.lower <= found.lower).all()
    assert (found.upper <= cert.bound.upper).all()
    # More inputs than the search has seen.
    many = torch.cat([10.0**k * batch(100, seed=k + 5) for k in range(-3, 13)])
    assert (fit.predict(many).abs().amax(0) <= cert.bound.upper).all()
    assert found.value == torch.maximum(-found.lower, found.upper).max()
    assert float(fit.predict(found.input[None])[0, found.output].abs()) == pytest.approx(
        found.value
    )


def test_the_sharp_form_is_attained() -> None:
    # Two points of correlation r and targets (1, -1): sup |f| = sqrt(2 / (1 - r)) along Psi K^-1 y.
    sphere = torch.eye(2, dtype=torch.float64)
    other = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    x = torch.cat([sphere[:1], other])
    cosine = ff.Kernel(
        lambda a, b: F.normalize(a) @ F.normalize(b).T, lambda a: F.normalize(a).square().sum(-1)
    )
    fit = ff.KernelRegression(cosine).fit(x, torch.tensor([1.0, -1.0]))
    cert = certify_fit(fit)
    assert cert.worst_found.value == pytest.approx(math.sqrt(2 / 0.4), rel=1e-6)
    assert float(cert.forms.norm) == pytest.approx(math.sqrt(2 / 0.4), rel=1e-6)


def test_the_form_with_n_in_the_denominator_is_wrong() -> None:
    one, ones = torch.ones(1, dtype=torch.float64), torch.ones(10, 1, dtype=torch.float64)
    forms = bound_forms(1.0, 1.0, 10, 10.0 * one, 0.0 * one, one)
    assert float(forms.norm) == pytest.approx(math.sqrt(10))
    assert float(forms.root) == pytest.approx(math.sqrt(10))
    assert float(forms.linear) == 10.0
    # K = I and y = 1: f(x_i) = 1, but C max|y| / (lambda_min n) = 0.1.
    eye = ff.Kernel(lambda a, b: a @ b.T, lambda a: a.square().sum(-1))
    points = torch.eye(10, dtype=torch.float64)
    assert float(ff.KernelRegression(eye).fit(points, ones).predict(points).min()) == 1.0


def test_limits_along_rays() -> None:
    fit = ff.KernelRegression(limit().ntk).fit(batch(20), batch(20, 2, seed=1))
    cert = certify_fit(fit)
    for direction in (batch(1, seed=9)[0], 1e-7 * batch(1, seed=4)[0]):
        ray = cert.along(direction)
        assert ray.degree == 0.0
        far = fit.predict(1e18 / direction.norm() * direction[None])[0]
        torch.testing.assert_close(ray.coefficient, far, rtol=1e-9, atol=1e-9)
        gaps = (ray.predictions - ray.coefficient).abs().amax(1)
        assert len(gaps) == len(SCALES) == 10
        if float(direction.norm()) > 1e-3:
            # What is missing falls like 1 / t.
            slope = np.polyfit(np.log(SCALES[:5]), np.log(gaps[:5].numpy()), 1)[0]
            assert slope == pytest.approx(-1.0, abs=0.05)


def test_growth_along_rays() -> None:
    cert = certify_fit(ff.KernelRegression(limit(norm=None).ntk).fit(batch(20), batch(20, 1)))
    assert cert.bounded is False
    assert cert.verdict == "grows, degree 1"
    assert "no bound (norms of the model: none)" in cert.reason
    assert cert.bound.largest == math.inf
    assert cert.forms is None
    escape = cert.growth.found
    ray = cert.along(escape.ray)
    far = cert.fit.predict(1e9 * escape.ray[None])[0]
    assert escape.slope == pytest.approx(float(ray.coefficient))
    assert escape.values[-1] == pytest.approx(1e12 * escape.slope, rel=1e-6)
    torch.testing.assert_close(1e9 * ray.coefficient, far, rtol=1e-6, atol=0)
    assert cert.worst_found.value > 1e9
    assert ray.gap < 1e-9
    squares = nn.Sequential(nn.Linear(2, 8), Square(), nn.Linear(8, 8), Square(), nn.Linear(8, 1))
    fit = ff.KernelRegression(ff.infinite_width(squares, 1.7, 0.3).ntk).fit(batch(5), batch(5, 1))
    assert along(fit, batch(1, seed=2)[0]).degree == pytest.approx(4.0)


def test_a_coefficient_that_cancels_is_0() -> None:
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    odd = ff.KernelRegression(limit(1, norm=None, bias_var=0.0, activation="identity").ntk, 0.1)
    # An even target, of which a linear network without biases can learn nothing.
    ray = along(odd.fit(x, torch.ones(2)), torch.ones(1, dtype=torch.float64))
    assert ray.degree == 1.0
    assert float(ray.coefficient) == 0.0


def test_a_zero_predictor_is_bounded() -> None:
    cert = certify_fit(ff.KernelRegression(limit(norm=None).ntk).fit(batch(5), torch.zeros(5)))
    assert cert.bounded is True
    assert cert.bound.largest == 0.0
    assert cert.worst_found.value == 0.0


def test_a_norm_behind_tanh_does_not_bound_the_kernel() -> None:
    model = ff.mlp(1, [8], 1, activation="tanh", norm="layer", norm_before_activation=False)
    limits = ff.infinite_width(model, 2.0, 0.1)
    # T = w |x|^2 E[phi'(u)^2], and u is rarely near 0 when |x| is large: it grows like |x|.
    sizes = limits.ntk.diagonal(torch.tensor([[1e6], [1e9]], dtype=torch.float64))
    assert float(sizes[1] / sizes[0]) == pytest.approx(1e3, rel=1e-3)
    edges = torch.tensor([1e20, math.inf], dtype=torch.float64)
    assert cells.cell_bounds(limits, "ntk", [1], edges[:-1], edges[1:]).isinf().all()


def test_a_slow_approach_is_warned_of() -> None:
    slow = ff.Kernel(
        lambda a, b: 1.0 / (1e-20 + 1.0 / (1.0 + a.abs() + b.abs().T)) * 1e-12,
        lambda a: a.abs()[:, 0],
    )
    fit = ff.KernelRegression(slow, 1.0).fit(batch(1, 1), torch.ones(1))
    with pytest.warns(AccuracyWarning, match="settle further away"):
        along(fit, torch.ones(1, dtype=torch.float64))


def test_directions_that_are_refused() -> None:
    fit = ff.KernelRegression(limit().ntk).fit(batch(3), torch.ones(3))
    for direction, message in [
        (torch.zeros(2), "length 0"),
        (torch.full((2,), math.inf), "length inf"),
        (torch.ones(3), r"must be one input, of shape \(2,\)"),
    ]:
        with pytest.raises(SettingsError, match=message):
            along(fit, direction)


def test_the_search_finds_a_needle_that_rays_miss() -> None:
    x = batch(6)
    fit = ff.KernelRegression(limit().ntk).fit(x, torch.tensor([5.0, -5, 5, -5, 5, -5]))
    found = search(fit)
    grid = torch.linspace(-4, 4, 101, dtype=torch.float64)
    values = fit.predict(torch.cartesian_prod(grid, grid)).abs().max()
    assert found.value >= float(values) * (1 - 1e-3)
    assert bounds.certify_fit(fit).bound.largest >= found.value
