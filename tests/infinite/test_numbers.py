"""Any function of the raw input simply runs, as long as the rows stay apart."""

import pytest
import torch
from networks import Elementwise
from torch import nn
from torch.nn import functional as F

import farfield as ff
from farfield.errors import RangeError, UnsupportedOperation

X = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
OTHER = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
TABLE = torch.linspace(-1.0, 2.0, 12, dtype=torch.float64).reshape(3, 4)


class Features(nn.Module):
    """Functions of the features before the first layer, with a buffer and a plain tensor."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("table", TABLE)
        self.plain = TABLE[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def kernels(function, *layers, x=X, other=OTHER):
    model = nn.Sequential(Features(function), *layers).double()
    limit = ff.infinite_width(model, weight_var=1.5, bias_var=0.2)
    return *limit(x, other), *limit(x)


def guarded(x: torch.Tensor) -> torch.Tensor:
    if torch.isnan(x).any() or not x.isfinite().all():
        raise ValueError("nan")
    return x


def assigned(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[:, 0] = 0.0
    x[:, 1:] = 2.0 * x[:, 1:]
    return x.mul_(0.5).add_(1.0)


def largest_apart(x: torch.Tensor) -> torch.Tensor:
    values, _ = x.max(-1, keepdim=True)
    return torch.cat([x - values, *x.split([1, 3], -1)[:1]], -1)


ROW_WISE = {
    "mean": lambda self, x: x - x.mean(-1, keepdim=True),
    "normalize": lambda self, x: F.normalize(x, dim=-1),
    "norm": lambda self, x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True),
    "softmax": lambda self, x: x.softmax(-1),
    "cumsum": lambda self, x: x.cumsum(-1),
    "index": lambda self, x: x[:, [2, 0, 0]],
    "index tensor": lambda self, x: x.index_select(1, torch.tensor([3, 1])),
    "unsqueeze": lambda self, x: x.unsqueeze(1).expand(-1, 2, -1).flatten(1),
    "buffer": lambda self, x: F.linear(x, self.table),
    "buffer transposed": lambda self, x: torch.sin(x @ self.table.T),
    "plain tensor": lambda self, x: x * self.plain,
    "einsum": lambda self, x: torch.einsum("ni,oi->no", x, self.table),
    "mask": lambda self, x: torch.where(x > 0, x, 0.1 * x).masked_fill(x.abs() > 2, 0.0),
    "bool to number": lambda self, x: (x > 0).to(x.dtype) + (x > 1).float(),
    "tuple": lambda self, x: largest_apart(x),
    "guard": lambda self, x: guarded(x),
    "in place": lambda self, x: assigned(x),
    "sort": lambda self, x: torch.sort(x, dim=-1).values,
    "powers": lambda self, x: torch.stack([x, x**2, x.abs() ** 0.5], -1).flatten(1),
    "rank": lambda self, x: x.argsort(-1).double(),
}


@pytest.mark.parametrize("name", ROW_WISE)
def test_the_kernel_is_that_of_the_features(name) -> None:
    function, module = ROW_WISE[name], Features(None)
    features, others = function(module, X), function(module, OTHER)
    width = features.shape[-1]
    layers = (nn.Linear(width, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1))
    found = kernels(function, *layers)
    expected = kernels(lambda self, x: x, *layers, x=features, other=others)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-13, atol=1e-13)


def test_one_input_alone_and_single_precision() -> None:
    layers = (nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    many = kernels(ROW_WISE["normalize"], *layers)[2]
    alone = kernels(ROW_WISE["normalize"], *layers, x=X[:1], other=X[:1])[2]
    torch.testing.assert_close(alone, many[:1, :1], rtol=1e-14, atol=0.0)
    single = kernels(ROW_WISE["normalize"], *layers, x=X.float(), other=X.float())[2]
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), many, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda self, x: x - x.mean(0),
        lambda self, x: x - x.mean(),
        lambda self, x: x.softmax(0),
        lambda self, x: x.flip(0),
        lambda self, x: x.roll(1, 0),
        lambda self, x: x.cumsum(0),
        lambda self, x: x.sort(dim=0).values,
        lambda self, x: x / x.abs().max(),
        lambda self, x: x.T,
        lambda self, x: x[:1],
        lambda self, x: x[x > 0],
        lambda self, x: F.batch_norm(x, None, None, training=True),
        lambda self, x: x + torch.arange(len(x))[:, None],
        lambda self, x: x if x.mean() > 0 else -x,
        lambda self, x: x + torch.randn_like(x),
        lambda self, x: x.reshape(-1, 2, 4),
        lambda self, x: x.tolist(),
        lambda self, x: self.table[0].mul_(x[0]),
    ],
)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_what_mixes_rows_is_refused(function, rows) -> None:
    before = TABLE.clone()
    with pytest.raises(UnsupportedOperation):
        kernels(function, nn.Linear(4, 1), x=X[:rows], other=X[:rows].flip(0) + 1.0)
    assert torch.equal(before, TABLE)


def test_norms_in_a_row_with_values_of_their_own_have_an_nngp() -> None:
    first, second = nn.LayerNorm(4).double(), nn.RMSNorm(4).double()
    with torch.no_grad():
        first.weight.copy_(torch.tensor([1.0, 2.0, 0.5, -1.0]))
        first.bias.fill_(0.3)
    model = nn.Sequential(
        first, nn.Tanh(), second, Elementwise(lambda x: x[:, :3] * 2.0), nn.Linear(3, 1)
    )
    limit = ff.infinite_width(model, weight_var=1.5, bias_var=0.2)
    x = (second(first(X).tanh())[:, :3] * 2.0).detach()
    torch.testing.assert_close(limit.nngp(X), 0.5 * x @ x.T + 0.2, rtol=1e-13, atol=1e-13)
    with pytest.raises(UnsupportedOperation, match="do not average out"):
        limit.ntk(X)
    limit = ff.infinite_width(model.requires_grad_(False), weight_var=1.5, bias_var=0.2)
    assert not limit.ntk(X).any()


def test_slopes_of_the_raw_input() -> None:
    model = nn.Sequential(nn.PReLU(4, init=0.3), nn.Linear(4, 1)).double()
    limit = ff.infinite_width(model, weight_var=1.5, bias_var=0.2)
    x = F.leaky_relu(X, 0.3)
    torch.testing.assert_close(limit.nngp(X), 1.5 * x @ x.T / 4 + 0.2)
    with pytest.raises(UnsupportedOperation, match="do not average out"):
        limit.ntk(X)


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(True)]
)
def test_a_trained_number_is_refused_in_every_mode(mode) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(()))
            self.last = nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.scale.exp() * x)

    limit = ff.infinite_width(Scaled(), weight_var=1.0, bias_var=0.1)
    with mode():
        with pytest.raises(UnsupportedOperation, match="computed from one"):
            limit.ntk(1.0 * X)
        kernel = ff.infinite_width(nn.Linear(4, 1), weight_var=1.0, bias_var=0.1).ntk(1.0 * X)
    torch.testing.assert_close(kernel, X @ X.T / 4 + 0.1)


def test_a_frozen_reparametrised_weight_is_no_fixed_map() -> None:
    linear = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)).requires_grad_(False)
    with pytest.raises(UnsupportedOperation, match="computed from something"):
        ff.infinite_width(nn.Sequential(linear, nn.Linear(3, 1)), 1.0, 0.1).nngp(X)


def test_gradients_reach_the_input() -> None:
    x = X.clone().requires_grad_()
    layers = (nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    limit = ff.infinite_width(nn.Sequential(Features(ROW_WISE["norm"]), *layers), 1.5, 0.2)
    assert torch.autograd.gradcheck(lambda x: limit.ntk(x, OTHER), x)


def test_numbers_that_are_not_finite_are_told() -> None:
    model = nn.Sequential(Elementwise(torch.log), nn.Linear(4, 1))
    with pytest.raises(RangeError, match=r"5 of 5 inputs"):
        ff.infinite_width(model, 1.0, 0.1).nngp(-X.abs())
