"""The rewrites of a traced graph keep its values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from farfield.training.program import simplify

aten = torch.ops.aten


def _bias(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return c[:, None, :] + torch.bmm(a, b)


# For each case the operations that must be left, in order.
CASES: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]], list[object]]] = {
    "product and sum": (
        _bias,
        [(3, 5, 4), (3, 4, 2), (3, 2)],
        [aten.unsqueeze.default, aten.baddbmm.default],
    ),
    "sum and product": (
        lambda a, b, c: torch.bmm(a, b) + c,
        [(3, 5, 4), (3, 4, 2), (3, 5, 2)],
        [aten.baddbmm.default],
    ),
    "factor and sum": (
        lambda a, b, c: a * b + c,
        [(3, 4), (3, 4), (3, 4)],
        [aten.addcmul.default],
    ),
    "product used twice": (
        lambda a, b, c: (p := torch.bmm(a, b)) + c + p,
        [(3, 5, 4), (3, 4, 2), (3, 5, 2)],
        [aten.bmm.default, aten.add.Tensor, aten.add.Tensor],
    ),
    "number times tensor": (
        lambda a: 2.0 * a + a,
        [(3, 4)],
        [aten.mul.Tensor, aten.add.Tensor],
    ),
    "scaled sum": (
        lambda a, b, c: torch.add(c, torch.bmm(a, b), alpha=3.0),
        [(3, 5, 4), (3, 4, 2), (3, 5, 2)],
        [aten.bmm.default, aten.add.Tensor],
    ),
    "transposed twice": (
        lambda a: torch.relu(a.transpose(1, 2).transpose(2, 1)),
        [(3, 4, 5)],
        [aten.relu.default],
    ),
    "transposed otherwise": (
        lambda a: a.transpose(0, 1).transpose(1, 2),
        [(3, 4, 5)],
        [aten.transpose.int, aten.transpose.int],
    ),
    "views that change nothing": (
        lambda a: torch.relu(a.view(3, 4).expand(3, 4).detach()),
        [(3, 4)],
        [aten.relu.default],
    ),
    "views that change": (
        lambda a: a.view(4, 3).expand(2, 4, 3).sum(0),
        [(3, 4)],
        [aten.view.default, aten.expand.default, aten.sum.dim_IntList],
    ),
    "sum that broadcasts the product": (
        lambda a, b, c: torch.bmm(a, b) + c,
        [(1, 5, 4), (1, 4, 2), (3, 5, 2)],
        [aten.bmm.default, aten.add.Tensor],
    ),
    "factor and sum that broadcasts": (
        lambda a, b, c: a * b + c,
        [(4,), (4,), (3, 4)],
        [aten.mul.Tensor, aten.add.Tensor],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rewritten_graph_is_shorter_and_gives_the_same(name: str) -> None:
    function, shapes, expected = CASES[name]
    inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    traced = make_fx(function, tracing_mode="fake")(*inputs)
    simplify(traced)
    # A fused operation rounds once where two rounded twice.
    torch.testing.assert_close(traced(*inputs), function(*inputs), rtol=1e-13, atol=1e-13)
    left = [node.target for node in traced.graph.nodes if node.op == "call_function"]
    assert left == expected
