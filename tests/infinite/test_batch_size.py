"""Inside of forward the batch holds both batches: shapes work, numbers made of the size do not."""

import math
from collections.abc import Callable

import pytest
import torch
from networks import Elementwise
from torch import nn

import farfield as ff
from farfield.errors import UnsupportedOperation

X = torch.tensor([[0.7, -1.3, 0.4], [-0.2, 0.9, 1.1], [0.3, 0.1, -2.0]], dtype=torch.float64)


def network(function: Callable[[torch.Tensor], torch.Tensor], at: str, width: int = 4) -> nn.Module:
    """The function on the raw input or on hidden units."""
    layers = [nn.Linear(3, 4), Elementwise(torch.relu), nn.Linear(width, 1)]
    layers.insert(0 if at == "input" else 2, Elementwise(function))
    if at == "input" and width != 4:
        layers = [layers[0], nn.Linear(width, 4), layers[2], nn.Linear(4, 1)]
    return nn.Sequential(*layers)


def kernels(model: nn.Module, *batches: torch.Tensor) -> torch.Tensor:
    return torch.stack(ff.infinite_width(model, 1.5, 0.2)(*batches))


SHAPES = {
    "view": lambda x: x.view(x.shape[0], -1),
    "reshape": lambda x: x.reshape(len(x), x.size(1)),
    "view twice": lambda x: x.view(x.shape[0], *x.shape[1:]).view(-1, x.shape[-1]),
    "product of sizes": lambda x: x.view(x.size(0) * 2 // 2, -1),
    "branch": lambda x: x if x.shape[0] > 0 else -x,
}


@pytest.mark.parametrize("at", ["input", "hidden"])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("batches", [(X,), (X, X[:1]), (X[:1],), (X[:1], X)])
def test_shapes_are_exact(name, at, batches) -> None:
    plain = kernels(network(lambda x: x, at), *batches)
    assert torch.equal(kernels(network(SHAPES[name], at), *batches), plain)


@pytest.mark.parametrize("at", ["input", "hidden"])
def test_constants_of_the_size_of_the_batch(at) -> None:
    def beside(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x.new_zeros(x.shape[0], 2), torch.ones(x.shape[0], 1)], -1)

    width = 6 if at == "input" else 7
    found = kernels(network(beside, at, width), X, X[:2])
    if at == "input":
        rows = [torch.cat([x, 0 * x[:, :2], 0 * x[:, :1] + 1], 1) for x in (X, X[:2])]
        same = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))
        torch.testing.assert_close(found, kernels(same, *rows), rtol=1e-14, atol=0.0)
    else:
        # Four units of seven, and one of seven with the value 1.
        body = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        nngp, ntk = ff.infinite_width(body, 1.5, 0.2)(X, X[:2])
        value = 1.5 * (4 * nngp + 1) / 7 + 0.2
        expected = torch.stack([value, value + 1.5 * 4 / 7 * ntk])
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=0.0)


NUMBERS = {
    "quotient": lambda x: x / x.shape[0],
    "product": lambda x: x * (1.0 / len(x)),
    "root": lambda x: x * math.sqrt(x.size(0)),
    "sum": lambda x: x + 0.1 * x.shape[0],
    "branch": lambda x: x if x.shape[0] < 3 else 2.0 * x,
}


@pytest.mark.parametrize("at", ["input", "hidden"])
@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("batches", [(X,), (X, X[:1]), (X[:1],), (X[:1], X)])
def test_numbers_made_of_the_size_are_refused(name, at, batches) -> None:
    limit = ff.infinite_width(network(NUMBERS[name], at), 1.5, 0.2)
    for run in (limit, limit.ntk, limit.nngp):
        with pytest.raises(UnsupportedOperation, match=r"In the model .*x\.shape\[0\].* one input"):
            run(*batches)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + torch.arange(x.shape[0])[:, None],
        lambda x: x * torch.arange(x.shape[0]).double()[:, None],
        lambda x: torch.cat([x, torch.arange(x.shape[0]).double()[:, None]], -1),
        lambda x: x[torch.arange(x.shape[0]).flip(0)],
        lambda x: x[torch.arange(x.shape[0]) > 0],
        lambda x: torch.eye(x.shape[0], dtype=x.dtype) @ x,
        lambda x: torch.where(torch.arange(x.shape[0])[:, None] > 0, x, -x),
        lambda x: torch.where(x > 0, torch.arange(x.shape[0])[:, None], x),
        lambda x: x.view(2, x.shape[0] // 2, -1),
        lambda x: x.index_select(0, torch.arange(x.shape[0]).roll(1)),
        lambda x: x.mean(0, keepdim=True).expand(x.shape[0], -1),
        lambda x: x - x.sum(0) / x.shape[0],
    ],
)
@pytest.mark.parametrize("at", ["input", "hidden"])
def test_what_differs_between_rows_is_refused(function, at) -> None:
    for batches in [(X[:2],), (X[:1],), (X, X[:1])]:
        with pytest.raises(UnsupportedOperation):
            kernels(network(function, at), *batches)
