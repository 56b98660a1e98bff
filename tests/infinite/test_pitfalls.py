"""What a reading could overlook: copies, views, trained numbers, gradients switched off."""

import pytest
import torch
from networks import Elementwise, stack
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.errors import RangeError, SettingsError, UnsupportedOperation
from farfield.infinite.finite import _draw, _plan
from farfield.infinite.sums import added_vectors

X = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


class Net(nn.Module):
    """A forward of three linear layers and two trained numbers, given as a function of them."""

    def __init__(self, forward, width: int = 8) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, width), nn.Linear(width, width)
        self.last = nn.Linear(width, 1)
        self.gate, self.vector = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(3))
        self.run = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self, x)


def ntk(forward) -> torch.Tensor:
    return ff.infinite_width(Net(forward), weight_var=1.5, bias_var=0.1).ntk(X)


def residual(copy):
    def forward(net: Net, x: torch.Tensor) -> torch.Tensor:
        h = net.first(x)
        kept = copy(h)
        return net.last(net.second(F.relu_(h)) + kept)

    return forward


@pytest.mark.parametrize(
    "copy",
    [torch.clone, lambda h: h.clone(), lambda h: h + 0.0, lambda h: h * 1.0],
)
def test_a_copy_does_not_change_with_what_it_was_copied_from(copy) -> None:
    def expected(net: Net, x: torch.Tensor) -> torch.Tensor:
        h = net.first(x)
        return net.last(net.second(torch.relu(h)) + h)

    torch.testing.assert_close(ntk(residual(copy)), ntk(expected), rtol=1e-13, atol=1e-13)


def sliced_in_place(net: Net, x: torch.Tensor) -> torch.Tensor:
    h = net.first(x)
    h[:, :4].relu_()
    return net.last(h)


def range_of_concatenation(net: Net, x: torch.Tensor) -> torch.Tensor:
    h = net.first(x)
    return net.last(torch.cat([h, 3.0 * net.second(torch.tanh(h))], -1).chunk(2, -1)[1])


def without_gradients(net: Net, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        h = F.relu(net.first(x))
    return net.last(h)


@pytest.mark.parametrize(
    ("forward", "match"),
    [
        (sliced_in_place, "in-place function of a view"),
        (range_of_concatenation, "Units side by side"),
        (without_gradients, "no_grad inside of forward"),
        (lambda net, x: net.last(F.relu(net.first(x)) * torch.rand(())), "random numbers"),
        (lambda net, x: net.last(net.gate.exp() * F.relu(net.first(x))), "computed from one"),
        (lambda net, x: net.last(net.first(x) + net.gate**2), "computed from one"),
        (lambda net, x: net.last(F.relu(net.first(x + net.vector))), "few features"),
    ],
)
def test_refused(forward, match) -> None:
    with pytest.raises(UnsupportedOperation, match=match):
        ntk(forward)


def test_frozen_numbers_and_an_ambient_no_grad_are_fine() -> None:
    def frozen(net: Net, x: torch.Tensor) -> torch.Tensor:
        return net.last(net.gate.detach() * 2.0 * F.relu(net.first(x)))

    expected = ntk(lambda net, x: net.last(2.0 * F.relu(net.first(x))))
    with torch.no_grad():
        torch.testing.assert_close(ntk(frozen), expected)


@pytest.mark.parametrize("norm", [nn.LayerNorm(3), nn.RMSNorm(3)])
def test_a_trained_norm_on_the_raw_input_has_an_nngp_only(norm) -> None:
    model = nn.Sequential(norm, stack(1, nn.Tanh))
    limit = ff.infinite_width(model, weight_var=1.5, bias_var=0.1)
    plain = type(norm)(3, elementwise_affine=False)
    same = ff.infinite_width(nn.Sequential(plain, stack(1, nn.Tanh)), 1.5, 0.1)
    torch.testing.assert_close(limit.nngp(X), same.nngp(X))
    for call in (limit.ntk, limit.ntk.diagonal, limit):
        with pytest.raises(UnsupportedOperation, match=r"do not average out.*NNGP is not affected"):
            call(X)


@pytest.mark.parametrize("norm", ["before", "after"])
def test_a_zero_input_has_no_direction(norm) -> None:
    x = 1e-8 * torch.cat([X, -X, torch.zeros(1, 3, dtype=X.dtype)])
    matrix = ff.infinite_width(stack(2, nn.ReLU, norm), weight_var=1.5, bias_var=0.0).ntk(x)
    values = torch.linalg.eigvalsh(matrix)
    assert values[0] >= -1e-12 * values[-1]


def test_monte_carlo_does_not_guess_a_fan_in() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((3, 64), 0.5, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    with pytest.raises(SettingsError, match="cannot tell the fan_in of 'weight'"):
        ff.monte_carlo(Own(), X, draws=2, weight_var=1.5)
    drawn = ff.monte_carlo(Own(), X, draws=400, generator=torch.Generator().manual_seed(0))
    exact = 0.25 * X @ X.T
    assert ((drawn.nngp - exact).abs() <= 4 * drawn.nngp_error).all()


class OwnBias(nn.Module):
    """``x @ W + b`` behind a norm, in several spellings; the bias is not called so."""

    def __init__(self, spelling: str, width: int = 64) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, width), nn.Linear(width, 8)
        self.gain = nn.LayerNorm(width)
        self.w, self.b = nn.Parameter(torch.ones(width, width)), nn.Parameter(torch.zeros(width))
        self.spelling = spelling
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.gain(self.first(x)).relu()
        if self.spelling == "sum":
            h = h @ self.w + self.b
        elif self.spelling == "reflected":
            h = self.b + h @ self.w
        elif self.spelling == "in place":
            h = h @ self.w
            h += self.b
        elif self.spelling == "addmm":
            h = torch.addmm(self.b, h, self.w)
        else:
            h = nn.functional.linear(h, self.w, bias=self.b)
        return self.last(h.relu())


@pytest.mark.parametrize("spelling", ["sum", "reflected", "in place", "addmm", "linear"])
def test_monte_carlo_draws_what_the_limit_takes_for_a_bias(spelling) -> None:
    # The bias has most of the variance: without it the NNGP would be off by a factor.
    model = OwnBias(spelling)
    options = {"weight_var": 1.0, "bias_var": 4.0}
    seed = torch.Generator().manual_seed(0)
    drawn = ff.monte_carlo(model, X, draws=20, generator=seed, **options)
    nngp, ntk = ff.infinite_width(model, **options)(X)
    pairs = [(nngp, drawn.nngp, drawn.nngp_error), (ntk, drawn.ntk, drawn.ntk_error)]
    for exact, mean, error in pairs:
        slack = 2.0 / 64 * exact.diagonal().max()
        assert ((mean - exact).abs() <= 4.0 * error + slack).all()
    assert (drawn.nngp_error < 0.15 * nngp).all()  # so that the comparison can fail


def test_gains_slopes_and_positions_are_not_drawn_as_biases() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.PReLU(4), nn.LSTM(4, 4), Last())
    kept = {name: p.detach().clone() for name, p in model.named_parameters()}
    seen = added_vectors(model.double(), dict(model.named_parameters()), X)
    assert seen == {"0.bias", "4.linear.bias"}
    drawn = _draw(model, _plan(model, {}, {}, seen), X, torch.Generator().manual_seed(0))
    same = {name for name, value in kept.items() if torch.equal(drawn[name], value.double())}
    assert same == {"1.weight", "1.bias", "2.weight"}


class Last(nn.Module):
    """A linear layer on what an LSTM returns."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, outputs: tuple[torch.Tensor, object]) -> torch.Tensor:
        return self.linear(outputs[0])


def test_the_gradient_of_a_sine_at_zero_is_finite() -> None:
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    for norm in (None, "before", "after"):
        model = stack(1, lambda: Elementwise(torch.sin), norm)
        for matrix in ff.infinite_width(model, weight_var=1.0, bias_var=0.0)(zero):
            (gradient,) = torch.autograd.grad(matrix.sum(), zero, retain_graph=True)
            assert gradient.isfinite().all()


def test_a_norm_that_divides_by_zero_is_refused() -> None:
    norm = nn.LayerNorm(3, eps=0.0, elementwise_affine=False)
    limit = ff.infinite_width(nn.Sequential(norm, nn.Linear(3, 1)), 1.0, 0.1)
    assert limit.ntk(X).isfinite().all()
    with pytest.raises(RangeError, match="positive eps"):
        limit.ntk(torch.ones(1, 3, dtype=torch.float64))


def test_monte_carlo_checks_its_arguments() -> None:
    model = stack(1, nn.ReLU)
    with pytest.raises(SettingsError, match="choose 'ntk' or 'standard'"):
        ff.monte_carlo.__wrapped__(model, X, draws=2, parameterization="other")
    with pytest.raises(SettingsError, match="NaN or infinite"):
        ff.monte_carlo(model, X / 0.0, draws=2)
