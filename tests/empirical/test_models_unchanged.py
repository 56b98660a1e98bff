"""Computing a kernel changes nothing of the model, nor of its surroundings."""

import copy

import pytest
import torch
from torch import nn
from zoo import Function, make, used, x

import farfield as ff

NAMES = [
    "shared batch norm",
    "spectral norm",
    "weight norm",
    "lstm",
    "transformer encoder",
    "mixture of experts",
    "tied decoder",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("surroundings", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_model_gradients_buffers_and_random_state(name, surroundings) -> None:
    model, inputs = make(name)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    before = copy.deepcopy(model)
    own = {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    versions = {name: p._version for name, p in model.named_parameters()}
    state, mkldnn = torch.get_rng_state(), torch.backends.mkldnn.enabled
    expected = ff.empirical_ntk(model)(inputs)
    with surroundings():
        found = ff.empirical_ntk(model)(inputs)
        ff.empirical_ntk(model).explain(inputs)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.mkldnn.enabled == mkldnn
    assert not found.requires_grad
    torch.testing.assert_close(found.clone(), expected, rtol=1e-13, atol=1e-13)
    assert {n: id(t) for n, t in model.state_dict(keep_vars=True).items()} == own
    for name, tensor in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, gradients[name])
        assert parameter._version == versions[name]
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]


def test_inputs_of_inference_mode_and_with_gradients() -> None:
    model, inputs = make("mlp")
    with torch.inference_mode():
        fixed = inputs.clone()
    wanting = inputs.clone().requires_grad_()
    expected = ff.empirical_ntk(model)(inputs)
    assert torch.equal(ff.empirical_ntk(model)(fixed), expected)
    assert torch.equal(ff.empirical_ntk(model)(wanting), expected)
    assert wanting.grad is None


def test_modules_that_change_their_buffers() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, h: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            self.calls = self.calls + 1
            return self.linear(h)

    model = Counting()
    buffer = model.calls
    ff.empirical_ntk(model)(x(3))
    assert model.calls is buffer
    assert buffer == 0


def test_a_forward_that_fails_leaves_the_model_as_it_was() -> None:
    model = Function(lambda m, h: m.norm(h) + 1 / 0, norm=used(nn.BatchNorm1d(3))).eval()
    buffer = model.norm.running_mean
    with pytest.raises(ZeroDivisionError):
        ff.empirical_ntk(model)(x(3))
    assert model.norm.running_mean is buffer


def test_what_a_call_leaves_behind() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.calls, self.first = 0, None

        def forward(self, h: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            self.first = self.last = self.linear(h)
            return self.last

    model = Keeping()
    ff.empirical_ntk(model)(x(3))
    assert (model.calls, model.first) == (0, None)
    assert not hasattr(model, "last")
