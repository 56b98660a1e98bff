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
        (Elementwise(lambda x: x if x.prod() > 0 else -x), "prod", ""),
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
    assert reason == "" or "Nearest" not in message
    assert "farfield.monte_carlo(model, x1, x2)" in message


@pytest.mark.parametrize(
    ("function", "nearest"),
    [
        (lambda x: x.arctan2(x), ["arctan"]),
        (lambda x: x.sort(-1).values, ["sqrt"]),
        (lambda x: torch.log2(x), ["log1p"]),
        (lambda x: x.fmod(2.0), []),
    ],
)
def test_only_names_that_are_close_are_offered(function, nearest) -> None:
    with pytest.raises(UnsupportedOperation) as caught:
        ff.infinite_width(nested(Elementwise(function)))(X)
    offered = re.search(r"Nearest with a rule: (.*?)\.", str(caught.value))
    names = offered.group(1).split(", ") if offered else []
    assert set(names) <= set(RULES.names())
    assert set(nearest) <= set(names)
    assert len(names) <= 3
    assert bool(names) == bool(nearest)


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

    with pytest.raises(UnsupportedOperation, match=r"^In the model \(Own\): softmax has no rule"):
        ff.infinite_width(Own())(X)
    with pytest.raises(UnsupportedOperation, match=r"^In the model \(Elementwise\): an output of"):
        ff.infinite_width(Elementwise(lambda x: None))(X)


def test_after_a_refusal_the_trail_is_clear() -> None:
    with pytest.raises(UnsupportedOperation, match=r"head\.body\.1"):
        ff.infinite_width(nested(nn.Softmax(-1)))(X)
    with pytest.raises(UnsupportedOperation, match="In module '1'"):
        ff.infinite_width(nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1)))(X)


def test_one_module_in_two_places() -> None:
    norm, linear = nn.LayerNorm(4), nn.Linear(4, 4)
    for module, reason in [(norm, "Its gradient is the sum of those at both places"),
                           (nn.RMSNorm(4), "a module of its own"),
                           (nn.PReLU(4), "a module of its own"),
                           (linear, "a shared layer")]:  # fmt: skip
        model = nn.Sequential(nn.Linear(3, 4), module, nn.Linear(4, 4), module, nn.Linear(4, 1))
        with pytest.raises(UnsupportedOperation, match=f"1.weight' a.* second .*{reason}"):
            ff.infinite_width(model, 1.5, 0.2)(X)


def test_a_frozen_norm_may_stand_in_two_places() -> None:
    def model(first: nn.Module, second: nn.Module) -> nn.Module:
        layers = [nn.Linear(3, 4), first, nn.ReLU(), nn.Linear(4, 4), second, nn.Linear(4, 1)]
        return nn.Sequential(*layers)

    shared = nn.LayerNorm(4).requires_grad_(False)
    apart = [nn.LayerNorm(4).requires_grad_(False) for _ in range(2)]
    values = [ff.infinite_width(m, 1.5, 0.2)(X) for m in (model(shared, shared), model(*apart))]
    for one, two in zip(*values, strict=True):
        assert torch.equal(one, two)


class Tied(nn.Module):
    """Linear maps, the second by the transposed matrix of ``inner``; ``first`` uses it before."""

    def __init__(self, first: bool, product: bool) -> None:
        super().__init__()
        self.outer, self.inner, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.first, self.product = first, product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.outer(x).relu()
        if self.first:
            h = self.inner(h).relu()
        turned = self.inner.weight.T
        h = h @ turned if self.product else nn.functional.linear(h, turned)
        return self.last(h)


@pytest.mark.parametrize("product", [False, True])
def test_a_transposed_matrix(product) -> None:
    with pytest.raises(UnsupportedOperation, match=r"'inner\.weight' a second time.*tied weights"):
        ff.infinite_width(Tied(True, product), 1.5, 0.2)(X)
    # Used once it is a matrix like any other, without the bias of its module.
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.Linear(4, 1))
    values = [ff.infinite_width(m, 1.5, 0.2)(X) for m in (Tied(False, product), plain)]
    for one, two in zip(*values, strict=True):
        assert torch.equal(one, two)


def test_layers_that_are_not_registered() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(3, 4), nn.Linear(4, 1)]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers[1](self.layers[0](x).relu())

    with pytest.raises(UnsupportedOperation, match=r"not a parameter of the model.*ModuleList"):
        ff.infinite_width(Hidden(), 1.5, 0.2)(X)


def _swish(u: torch.Tensor) -> torch.Tensor:
    return u * torch.sigmoid(u)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_scripted_function_is_refused_by_name_and_place() -> None:
    message = r"In module 'head.body.1' \(Elementwise\): it calls a function that torch.jit"
    with pytest.raises(UnsupportedOperation, match=message):
        ff.infinite_width(nested(Elementwise(torch.jit.script(_swish))))(X)


def test_other_errors_of_forward_are_the_models_own() -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a mistake of the model")

    with pytest.raises(RuntimeError, match="a mistake of the model"):
        ff.infinite_width(nested(Elementwise(broken)))(X)
