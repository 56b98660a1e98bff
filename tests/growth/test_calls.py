"""Spellings, aliases and types of PyTorch that must not change what a certificate says."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import farfield as ff
from farfield.growth import Effort, certify_model

QUICK = Effort(rays=8, starts=4, steps=3, cells=0)


class Own(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def power_one(x: Tensor) -> Tensor:
    y = x.tanh()
    z = y**1  # a copy
    z.add_(3.0)
    return y + z


def dropped(x: Tensor) -> Tensor:
    y = x.tanh()
    F.dropout(y, 0.5, training=False).add_(3.0)  # no copy
    return y


def masked(x: Tensor) -> Tensor:
    y = x.tanh()
    y.masked_fill_(x > 0, 7.0)
    return y


def doubled(x: Tensor) -> Tensor:
    y = x.tanh()
    y += y
    y *= y  # its derivative needs what is gone
    return y


TABLE = torch.tensor([[1.0, 2.0], [5.0, -9.0]]).double()

# Each is bounded and takes values near both ends of its range on the inputs below.
BOUNDED: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "where as a method": (lambda x: x.tanh().where(x > 0, torch.tensor(-3.0)), -3.0, 1.0),
    "both of two comparisons": (lambda x: ((x > 0) & (x < 1)) * 1.0, 0.0, 1.0),
    "not": (lambda x: (~(x > 0) | torch.logical_and(x > 1, x == x)).float(), 0.0, 1.0),
    "a count": (lambda x: (x > 0).sum(1), 0.0, 3.0),
    "a copy by a power": (power_one, 1.0, 5.0),
    "dropout is no copy": (dropped, 2.0, 4.0),
    "in place where a gradient needs it": (doubled, 0.0, 4.0),
    "filled in place": (masked, -1.0, 7.0),
    "whole numbers": (lambda x: (3.0 * x.tanh()).long() - 3.0 * x.tanh(), -1.0, 1.0),
    "truth values": (lambda x: x.clamp(0.0, 0.5).to(torch.bool) * 1.0, 0.0, 1.0),
    "looked up": (lambda x: F.embedding((x > 0).to(torch.int64), TABLE), -9.0, 5.0),
    "without a derivative": (
        lambda x: torch.heaviside(x, torch.tensor(9.0).double()), 0.0, 1.0,
    ),
    "rows without a dimension": (lambda x: x.tanh().sum(-1), -3.0, 3.0),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDED)
def test_bounds_hold_whatever_the_spelling(name: str) -> None:
    function, low, high = BOUNDED[name]
    x = torch.tensor([-1e12, -0.32, 0.3, 0.32, 1e12]).double()
    values = torch.cat([function(row[None]).flatten() for row in torch.cartesian_prod(x, x, x)])
    assert values.min() < low + 0.1 * (high - low)
    assert values.max() > high - 0.1 * (high - low)
    cert = certify_model(Own(function), (3,), effort=QUICK)
    assert cert.bounded
    assert cert.bound.lower.min() <= values.min()
    assert cert.bound.upper.max() >= values.max()


def test_where_as_a_method_of_what_grows() -> None:
    assert certify_model(Own(lambda x: x.where(x > 0, 0 * x)), (3,), effort=QUICK).bounded is False


def into_a_constant(x: Tensor) -> Tensor:
    y = torch.zeros(x.shape).double()
    z = y
    y += x
    return z + x.tanh()


def by_rows(x: Tensor) -> Tensor:
    y = 1.0 * x.T
    for row in y:
        row.mul_(0.0)
    return y.T


REFUSED = {
    "into a constant": (into_a_constant, "add_ that writes into a constant"),
    "out": (lambda x: torch.sum(x, 1, out=torch.zeros(1).double()), "sum that writes into"),
    "views of rows": (by_rows, "an in-place function of a view"),
    "a sum of truth values": (
        lambda x: torch.stack([x > 0, x > 1]) + torch.stack([x > 0, x > 1]),
        "a sum of truth values",
    ),
    "a sum of whole numbers": (lambda x: x.sum(1, dtype=torch.int64), "sum with dtype=torch.int64"),
    "softplus that falls": (lambda x: F.softplus(x, beta=-1), "softplus with beta=-1"),
    "softplus that jumps": (lambda x: F.softplus(x, threshold=-3), "threshold=-3"),
    "a negative divisor": (
        lambda x: F.avg_pool2d(x[:, None, None], (1, 2), divisor_override=-1), "negative divisor",
    ),
    "several exponents": (lambda x: x ** torch.tensor([1.0, 2.0, 3.0]), "several exponents"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_named(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(ff.errors.UnsupportedOperation, match=message):
        certify_model(Own(function), (3,), effort=QUICK)


class Pooled(nn.Module):
    """Attention with a learned query, which keeps what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 8))
        self.embed, self.norm, self.head = nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.embed(x)
        h = self.norm(self.seen)
        pooled, self.weights = self.attention(self.query.expand(len(x), -1, -1), h, h)
        result: Tensor = self.head(pooled[:, 0])
        return result


def test_a_model_keeps_nothing_of_its_certificate() -> None:
    torch.manual_seed(0)
    model = Pooled().eval()
    assert certify_model(model, (4, 3), effort=QUICK).bounded
    assert model.seen is None
    assert not hasattr(model, "weights")


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Mixed(nn.Module):
    """A number of a table beside other numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.cat([self.table(x[:, 0].long()), x[:, 1:].tanh()], 1))
        return result


def test_tokens_beside_numbers() -> None:
    assert certify_model(Mixed(), (3,), {0: (0, 8)}, QUICK).bounded
    with pytest.raises(ff.errors.SettingsError, match=r"domain=\{0: \(0, 8\)\}"):
        certify_model(Mixed(), (3,), effort=QUICK)


def test_arguments_that_mean_nothing() -> None:
    layer = nn.Linear(3, 1)
    nan = nn.Sequential(layer, nn.BatchNorm1d(1)).eval()
    nan[1].running_var.fill_(float("nan"))
    for model, shape, domain, message in (
        (Two(), (3,), None, "cannot be called with one tensor"),
        (layer, None, {3: (0, 1)}, "names coordinate 3"),
        (layer, None, {0: (torch.zeros(2), 1.0)}, "several numbers"),
        (nan, None, None, "buffer '1.running_var' holds"),
    ):
        with pytest.raises(ff.errors.SettingsError, match=message):
            certify_model(model, shape, domain, QUICK)
