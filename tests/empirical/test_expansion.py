"""Networks that are affine, or polynomials, in their parameters."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from zoo import make, mlp, x

import farfield as ff
from farfield.errors import SettingsError, UnsupportedOperation
from oracles import jacobians

NAMES = ["mlp", "cnn", "transformer encoder", "lstm", "weight norm", "tied decoder",
         "shared batch norm", "spectral norm", "bilinear", "keyword inputs", "siamese"]  # fmt: skip


def called(model: nn.Module, inputs: object) -> torch.Tensor:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


@pytest.mark.parametrize("name", NAMES)
def test_affine_in_the_parameters(name) -> None:
    model, inputs = make(name)
    before = copy.deepcopy(model.state_dict())
    ff.empirical_ntk(model)(inputs)
    linear = ff.linearize(model)  # the model can still be copied
    gradients = jacobians(model, inputs)
    value = called(model, inputs)
    torch.testing.assert_close(called(linear, inputs), value, rtol=1e-12, atol=1e-12)
    change = torch.zeros_like(value).reshape(len(value), -1)
    with torch.no_grad():
        for key, parameter in linear.moving.named_parameters():
            step = torch.randn_like(parameter)
            parameter += step
            change += gradients[key] @ step.flatten()
    found = (called(linear, inputs) - value).reshape(len(value), -1)
    torch.testing.assert_close(found, change, rtol=1e-10, atol=1e-10)
    # Its own gradients are those of the network where it was expanded, wherever it is now.
    called(linear, inputs).sum().backward()
    for key, parameter in linear.moving.named_parameters():
        wanted = gradients[key].sum((0, 1)).view_as(parameter)
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_gradient_descent_is_linear_dynamics_of_the_kernel() -> None:
    model, inputs = make("cnn")
    y = torch.randn(len(inputs), 3, dtype=torch.float64)
    kernel = ff.empirical_ntk(model, outputs="full")(inputs).reshape(y.numel(), -1)
    linear = ff.linearize(model)
    rate = 1.0 / torch.linalg.eigvalsh(kernel)[-1].item()
    start = linear(inputs).detach().flatten() - y.flatten()
    optimizer = torch.optim.SGD(linear.parameters(), lr=rate)
    for _ in range(7):
        optimizer.zero_grad()
        (0.5 * (linear(inputs) - y).square().sum()).backward()
        optimizer.step()
    step = torch.eye(len(kernel), dtype=torch.float64) - rate * kernel
    expected = torch.linalg.matrix_power(step, 7) @ start
    found = linear(inputs).detach().flatten() - y.flatten()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_training_it_is_the_gradient_flow_of_the_kernel() -> None:
    model = mlp(nn.LayerNorm, nn.Tanh).double()
    model[-1] = nn.Linear(6, 1).double()
    inputs, new, y = x(3).double(), x(3).double(), torch.randn(5, 1, dtype=torch.float64)
    flow = ff.GradientFlow(ff.empirical_ntk(model), inputs, y, initial=model)
    rate = 0.9 * flow.largest_stable_step
    linear = ff.linearize(model)
    optimizer = torch.optim.SGD(linear.parameters(), lr=rate)
    for _ in range(10):
        optimizer.zero_grad()
        nn.functional.mse_loss(linear(inputs), y).backward()
        optimizer.step()
    for points in (inputs, new):  # both round some hundred operations in float64
        expected = flow.predict(points, steps=10, step_size=rate)
        torch.testing.assert_close(linear(points).detach(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
        lambda p: torch.optim.Adam(p, lr=0.01),
    ],
)
def test_optimisers_train_it_as_any_affine_model(optimizer) -> None:
    model, inputs = make("layer norm")
    y = torch.randn(5, 4, dtype=torch.float64)
    gradients = torch.cat(list(jacobians(model, inputs).values()), 2).reshape(20, -1)
    linear, value = ff.linearize(model), model(inputs).detach().flatten()
    # The same optimiser on the same affine function, written out with a dense Jacobian.
    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    plain = start.clone().requires_grad_()
    runs = [
        (list(linear.parameters()), lambda: linear(inputs)),
        ([plain], lambda: (value + gradients @ (plain - start)).view(5, 4)),
    ]
    for parameters, function in runs:
        steps = optimizer(parameters)

        def loss(steps=steps, function=function) -> torch.Tensor:
            steps.zero_grad()
            found = (function() - y).square().mean()
            found.backward()
            return found

        for _ in range(5):
            steps.step(loss)
    # Adam divides by gradients, some of which are small.
    torch.testing.assert_close(runs[0][1](), runs[1][1](), rtol=1e-7, atol=1e-7)
    assert (runs[0][1]() - y).norm() < (value.view(5, 4) - y).norm()


# Without kinks, where there is no power series.
POLYNOMIALS = ["shared layer", "shared batch norm", "keyword inputs", "rnn",
               "tied decoder", "cross attention", "tied autoencoder", "instance norm",
               "layer norm over two axes"]  # fmt: skip


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_coefficients_along_a_line(name) -> None:
    """Against the power series of Chebyshev's interpolation, which differentiates nothing."""
    model, inputs = make(name)
    expansions = [ff.taylor_expand(model, degree) for degree in range(4)]
    directions = [0.1 * torch.randn_like(p) for p in model.parameters()]
    moved = copy.deepcopy(model)
    starts = [p.detach().clone() for p in model.parameters()]
    nodes = 0.2 * np.cos(np.pi * (np.arange(21) + 0.5) / 21)
    values = []
    for t in nodes:
        with torch.no_grad():
            for own, start, direction in zip(moved.parameters(), starts, directions, strict=True):
                own.copy_(start + t * direction)
            values.append(called(moved, inputs).flatten().numpy())
    fitted = np.polynomial.chebyshev.chebfit(nodes / 0.2, np.stack(values), 20)
    polynomial = np.zeros_like(fitted)
    for column, coefficients in enumerate(fitted.T):
        series = np.polynomial.chebyshev.cheb2poly(coefficients)  # without zeros at its end
        polynomial[: len(series), column] = series / 0.2 ** np.arange(len(series))
    scale = np.abs(polynomial[:4]).max()
    for degree, expanded in enumerate(expansions):
        with torch.no_grad():
            for own, direction in zip(expanded.moving.parameters(), directions, strict=True):
                own += direction
        found = called(expanded, inputs).detach().flatten().numpy()
        # Rounding of 1e-16 grows with 1 / 0.2^degree and the conditioning of the series.
        assert np.abs(found - polynomial[: degree + 1].sum(0)).max() < 1e-8 * scale


def test_expansions_of_expansions() -> None:
    model, inputs = make("mlp")
    linear = ff.linearize(model)
    torch.testing.assert_close(ff.linearize(linear)(inputs), model(inputs), rtol=1e-12, atol=1e-12)
    full = ff.empirical_ntk(model, outputs="full")(inputs).reshape(20, 20)
    vector = torch.randn(20, dtype=torch.float64)
    product = ff.ntk_operator(linear, inputs) @ vector
    torch.testing.assert_close(product, full @ vector, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_polynomials_of_a_network_that_is_one(degree) -> None:
    class Product(nn.Module):
        """Of degree 3 in its parameters."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Parameter(torch.randn(4).double()) for _ in range(3))

        def forward(self, h: torch.Tensor) -> torch.Tensor:
            return h * self.a * self.b * self.c

    model, h = Product(), torch.randn(5, 4, dtype=torch.float64)
    expanded = ff.taylor_expand(model, degree)
    steps = [torch.randn(4, dtype=torch.float64) for _ in range(3)]
    with torch.no_grad():
        for parameter, step in zip(expanded.moving.parameters(), steps, strict=True):
            parameter += step
    starts = [p.detach() for p in model.parameters()]
    expected = torch.zeros_like(h)
    for moving in itertools.product([False, True], repeat=3):
        if sum(moving) <= degree:
            parts = [s if m else p for m, s, p in zip(moving, steps, starts, strict=True)]
            expected = expected + h * parts[0] * parts[1] * parts[2]
    torch.testing.assert_close(expanded(h), expected, rtol=1e-12, atol=1e-12)


def test_errors_shrink_as_their_degree_says() -> None:
    model = mlp(activation=nn.Tanh).double()
    h = x(3).double()
    direction = [torch.randn_like(p) for p in model.parameters()]
    errors = []
    for degree, size in itertools.product((1, 2, 3), (1e-2, 5e-3)):
        expanded, moved = ff.taylor_expand(model, degree), copy.deepcopy(model)
        for target in (expanded.moving, moved):
            with torch.no_grad():
                for parameter, step in zip(target.parameters(), direction, strict=True):
                    parameter += size * step
        errors.append((expanded(h) - moved(h)).norm().item())
    ratios = [errors[2 * i] / errors[2 * i + 1] for i in range(3)]
    for degree, ratio in zip((1, 2, 3), ratios, strict=True):
        assert 2 ** (degree + 0.6) < ratio < 2 ** (degree + 1.4)


def test_a_module_like_any_other() -> None:
    model, inputs = make("batch norm")
    linear = ff.linearize(model)
    assert len(list(linear.parameters())) == len(list(model.parameters()))
    linear.train()
    assert not any(m.training for m in linear.moving.modules())
    value = linear(inputs)
    assert linear.float()(inputs.float()).dtype == torch.float32
    torch.testing.assert_close(linear.double()(inputs), value, rtol=1e-5, atol=1e-5)
    other = ff.linearize(model)
    other.load_state_dict(linear.state_dict())


def test_refusals() -> None:
    with pytest.raises(SettingsError, match="degree is -1"):
        ff.taylor_expand(mlp(), -1)
    with pytest.raises(SettingsError, match="ties the inputs"):
        ff.linearize(nn.BatchNorm1d(3))
    model, inputs = make("several outputs")
    with pytest.raises(UnsupportedOperation, match="single tensor"):
        ff.linearize(model)(inputs)
    model, inputs = make("weight norm")
    with pytest.raises(UnsupportedOperation, match="no forward-mode derivative"):
        ff.taylor_expand(model, 2)(inputs)


def test_a_state_dictionary_says_what_it_stands_around() -> None:
    h = x(3)
    first = ff.linearize(mlp())
    with torch.no_grad():
        for parameter in first.parameters():
            parameter += 0.1
    second = ff.linearize(mlp())  # around other weights
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(h), first(h))


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_weights_that_a_call_has_left_behind() -> None:
    model, h = nn.utils.weight_norm(nn.Linear(3, 2)), x(3)
    model(h)  # leaves a weight with a graph, which cannot be copied
    torch.testing.assert_close(ff.linearize(model)(h), model(h))


def test_what_cannot_be_linearised() -> None:
    bags = ff.linearize(nn.EmbeddingBag(5, 2))
    with pytest.raises(UnsupportedOperation, match="cannot be linearised"):
        bags(torch.zeros(2, 2, dtype=torch.long))
    with pytest.raises(SettingsError, match="no parameters"):
        ff.linearize(nn.ReLU())
