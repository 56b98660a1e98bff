"""Networks that are affine, or polynomials, in their parameters."""

import copy
import itertools

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
