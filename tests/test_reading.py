"""AbstractTensor and its rules: names in errors, and a model left as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.errors import UnsupportedOperation
from farfield.reading import AbstractTensor, RuleTable

TABLE = RuleTable("a test", "Do something else.")


class Counted(AbstractTensor):
    """Stands for the number of functions it went through."""

    rules = TABLE

    @staticmethod
    def __new__(cls, count: int, like: torch.Tensor) -> "Counted":
        tensor = AbstractTensor.blank(cls, like.shape, like)
        tensor.count = count
        return tensor

    def __init__(self, count: int, like: torch.Tensor) -> None:
        pass

    def replace_(self, other: "Counted") -> "Counted":
        self.count = other.count
        return self


@TABLE.register(torch.relu, F.relu, torch.Tensor.relu)
def count_relu(x: Counted) -> Counted:
    return Counted(x.count + 1, x)


@pytest.fixture
def counted() -> Counted:
    return Counted(0, torch.zeros(2, 3))


def test_all_spellings_reach_the_rule(counted) -> None:
    assert counted.relu().count == torch.relu(counted).count == F.relu(counted).count == 1
    assert nn.ReLU()(counted).count == 1


def test_in_place_functions_change_what_the_tensor_stands_for(counted) -> None:
    nn.ReLU(inplace=True)(counted)
    assert counted.count == 1
    counted.relu_()
    assert counted.count == 2


def test_augmented_assignment_is_a_sum() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.one(x.view(x.size(0), -1))
            h += self.two(h.relu())
            return self.three(h.relu_())

    class Plain(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.one(x)
            return self.three(torch.relu(h + self.two(torch.relu(h))))

    x = torch.randn(3, 3, dtype=torch.float64)
    values = [ff.infinite_width(model, 2.0, 0.1).ntk(x) for model in (Block(), Plain())]
    torch.testing.assert_close(*values)


def test_answers_questions_about_its_shape(counted) -> None:
    assert counted.shape == (2, 3)
    assert counted.size(1) == 3
    assert len(counted) == 2
    assert counted.dtype == torch.float32
    assert "Counted" in repr(counted)


def test_a_function_without_a_rule_is_refused(counted) -> None:
    with pytest.raises(UnsupportedOperation, match=r"fft.*no rule in a test.*else\."):
        torch.fft.fft(counted)


def test_the_error_names_the_module_and_the_way_out() -> None:
    class Sorted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sort(-1).values

    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(Sorted()), nn.Linear(3, 1))
    with pytest.raises(UnsupportedOperation) as caught:
        ff.infinite_width(model).ntk(torch.ones(1, 2))
    message = str(caught.value)
    assert "'1.0' (Sorted)" in message
    assert "sort" in message
    assert "Nearest with a rule: sqrt" in message
    assert "monte_carlo" in message


def test_reading_leaves_the_model_as_it_was() -> None:
    model = ff.mlp(3, [4, 4], 1, norm="layer")
    before = copy.deepcopy(model.state_dict())
    keys = {name: set(vars(module)) for name, module in model.named_modules()}
    state = torch.random.get_rng_state()
    ff.infinite_width(model).ntk(torch.ones(2, 3))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert keys == {name: set(vars(module)) for name, module in model.named_modules()}
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert not torch.nn.modules.module._global_forward_hooks
    assert model.training
