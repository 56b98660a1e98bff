"""A refusal says where, what, why, what there is instead, and the way out."""

import re

import pytest
import torch
from networks import Elementwise
from torch import nn

import farfield as ff
from farfield.errors import UnsupportedOperation
from farfield.infinite.limit_tensor import RULES

X = torch.ones(2, 3, dtype=torch.float64)


def nested(module: nn.Module) -> nn.Module:
    """The module at the path ``head.body.1``."""
    model = nn.Sequential()
    head = nn.Sequential()
    head.add_module("body", nn.Sequential(nn.Linear(3, 4), module))
    model.add_module("head", head)
    return model


@pytest.mark.parametrize(
    ("module", "operation", "reason"),
    [
        (nn.Softmax(-1), "softmax", ""),
        (Elementwise(lambda x: x.cumsum(-1)), "cumsum", ""),
        (nn.BatchNorm1d(4), "a batch, group or instance norm", "Batch statistics"),
        (nn.Dropout(0.5), "dropout in training mode", r"Call model\.eval\(\) first"),
        (nn.PReLU(), "prelu with a trained slope", r"requires_grad_\(False\)"),
        (nn.LayerNorm((2, 4)), r"layer_norm over the dimensions \(2, 4\)", "Only the last"),
        (Elementwise(lambda x: x[:, :2] * x[:, 1:3]), "the range 1:3 of units", "overlap"),
        (Elementwise(lambda x: x**0.5), "pow with the exponent 0.5", "Whole numbers"),
        (Elementwise(lambda x: x.numpy()), "numpy", ""),
        (Elementwise(lambda x: x if x.sum() > 0 else -x), "sum", ""),
        (Elementwise(lambda x: x * torch.ones(4)), r"mul with a tensor of shape \(4,\)", "law"),
        (Elementwise(lambda x: x.flatten(0)), "flatten of the batch", "Rows"),
    ],
)
def test_where_what_why_and_the_way_out(module, operation, reason) -> None:
    model = nested(module)
    with pytest.raises(UnsupportedOperation) as caught:
        ff.infinite_width(model)(X)
    message = str(caught.value)
    where = re.escape(f"In module 'head.body.1' ({type(module).__name__}): ")
    assert re.match(where + operation + ".* has no rule in the infinite-width limit", message)
    assert re.search(reason, message)
    nearest = re.search(r"Nearest with a rule: (.*?)\.", message).group(1).split(", ")
    assert 3 <= len(nearest) <= 6
    assert set(nearest) <= set(RULES.names())
    assert "farfield.monte_carlo(model, x1, x2)" in message


def test_what_is_refused_is_not_called_supported() -> None:
    assert set(RULES.refused()) >= {"batch_norm", "group_norm", "instance_norm"}
    assert not set(RULES.refused()) & set(RULES.names())
    assert {"linear", "layer_norm", "relu", "cat"} <= set(RULES.names())


def test_an_operation_of_the_model_itself() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x).softmax(-1)

    with pytest.raises(UnsupportedOperation, match=r"^Own: softmax has no rule"):
        ff.infinite_width(Own())(X)


def test_after_a_refusal_the_trail_is_clear() -> None:
    with pytest.raises(UnsupportedOperation, match=r"head\.body\.1"):
        ff.infinite_width(nested(nn.Softmax(-1)))(X)
    with pytest.raises(UnsupportedOperation, match="In module '1'"):
        ff.infinite_width(nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1)))(X)
