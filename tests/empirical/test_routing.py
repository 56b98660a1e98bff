"""Models that sort, route and pack their samples, and samples that meet in a batch."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from test_exact import error
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from zoo import Function, make, x

import farfield as ff
from farfield.empirical.layout import Layout
from farfield.empirical.rules import RULES, Case
from farfield.errors import RangeError, UnsupportedOperation
from oracles import all_pairs, jacobians

TOLERANCE = 1e-12  # rounding of sums of some dozen terms


def _sorted(m: nn.Module, h: Tensor) -> Tensor:
    """The samples in the order of their experts, and back."""
    order = torch.argsort((h[:, 0] > 0).long(), stable=True)
    return m.head(m.body(h[order]).tanh())[torch.argsort(order)]


def _some(m: nn.Module, h: Tensor) -> Tensor:
    """A layer that some of the samples skip."""
    found = h.clone()
    found[h[:, 0] > 0] = m.body(h[h[:, 0] > 0])
    return m.head(found)


def _either(m: nn.Module, h: Tensor) -> Tensor:
    hidden, chosen = m.body(h), h[:, 0] > 0
    found = torch.zeros(len(h), 2, dtype=h.dtype)
    found[chosen] = m.head(hidden[chosen])
    found[~chosen] = m.other(hidden[~chosen])
    return found


def _packed(m: nn.Module, h: Tensor) -> Tensor:
    lengths = 1 + (h[:, 1:, 0] > 0).sum(1)
    steps = pack_padded_sequence(h, lengths, batch_first=True, enforce_sorted=False)
    return m.head(pad_packed_sequence(m.cell(steps)[0], batch_first=True)[0].sum(1))


def routed(function: Callable[..., object]) -> nn.Module:
    parts = {"body": nn.Linear(3, 3), "head": nn.Linear(3, 2), "other": nn.Linear(3, 2)}
    return Function(function, **parts).double()


@pytest.mark.parametrize("function", [_sorted, _some, _either])
@pytest.mark.parametrize("first", ["of one kind", "of both kinds"])
def test_samples_in_another_order(function, first) -> None:
    """The plan is learnt from the first four, which may tell nothing of the others."""
    h = torch.cat([x(3), x(3)]).double()
    if first == "of one kind":
        h[:4, 0] = h[:4, 0].abs()
    h[4:, 0] = torch.tensor([-0.5, 1.0, -2.0, 0.3, -0.1, 0.7])
    model = routed(function)
    gradients = jacobians(model, h)
    found = ff.empirical_ntk(model, outputs="full")(h)
    assert error(found, all_pairs(gradients, gradients)) < TOLERANCE


def test_packed_sequences() -> None:
    cell = nn.GRU(3, 4, batch_first=True, bidirectional=True)
    model, h = Function(_packed, cell=cell, head=nn.Linear(8, 2)).double(), x(4, 3).double()
    h[0, 1:, 0] = 1.0  # one sample has full length, others have what they have
    rows = []
    for sample in range(len(h)):
        (outputs,) = model(h[sample : sample + 1])
        used = [p for n, p in model.named_parameters()]
        each = [torch.autograd.grad(o, used, retain_graph=True) for o in outputs]
        rows.append(torch.stack([torch.cat([g.flatten() for g in own]) for own in each]))
    jacobian = torch.stack(rows)
    wanted = torch.einsum("iap,jbp->iajb", jacobian, jacobian)
    assert error(ff.empirical_ntk(model, outputs="full")(h), wanted) < TOLERANCE


TIED = {
    "the largest": lambda m, h: m.body(h / h.abs().max()),
    "the first": lambda m, h: m.body(h - h[:1]),
    "the last": lambda m, h: m.body(h - h[-1:]),
    "ranks": lambda m, h: m.body(h) * (1 + h[:, 0].argsort().argsort()[:, None]),
    "a sum so far": lambda m, h: m.body(h).cumsum(0),
    "an order": lambda m, h: m.body(h).sort(0).values,
    "gradients alone": lambda m, h: m.head(h) + (m.other(h) - m.other(h).detach()).mean(0),
    "the mean of what some are": lambda m, h: m.body(h)[h[:, 0] > -9] + m.head(h).mean(),
}


@pytest.mark.parametrize("largest", range(4))
@pytest.mark.parametrize("name", TIED)
def test_samples_that_meet(name, largest) -> None:
    h = x(3).double()
    h[largest] *= 9 / h[largest].norm()
    with pytest.raises(UnsupportedOperation, match="depend on the other inputs"):
        ff.empirical_ntk(routed(TIED[name]))(h)


def test_what_is_not_a_number() -> None:
    h = x(3).abs().double() + 0.1
    logarithm = Function(lambda m, h: h[:, :1].log() * m.w, w=torch.ones(2)).double()
    ff.empirical_ntk(logarithm)(h)
    h[-1] = -1.0  # behind the samples that the plan is learnt from
    with pytest.raises(RangeError, match="Outputs of 1 of 5 inputs are NaN"):
        ff.empirical_ntk(logarithm)(h)
    root = Function(lambda m, h: m.l(h).abs().sum(1, keepdim=True).sqrt(), l=nn.Linear(3, 2, False))
    with pytest.raises(RangeError, match="gradients of the model are not finite"):
        ff.empirical_ntk(root)(torch.zeros(5, 3))


def _scaled_bmm(m: nn.Module, h: Tensor) -> Tensor:
    weight = m.w.expand(len(h), 3, 4)
    return torch.baddbmm(m.b, h, weight, beta=0.5, alpha=-1.5).flatten(1)


USED = ["mlp", "mlp on positions", "cnn", "mask token", "embedding", "rows of a table",
        "fused rms norm", "batch norm", "group norm", "layer norm", "prelu", "repeated parameter",
        "vision transformer", "parameter on the left", "a matrix for each head",
        "attention pooling",
        "parameter on the left of sequences", "pieces of a parameter"]  # fmt: skip


def test_every_rule_is_taken() -> None:
    """A rule that always disagreed with autograd would leave the numbers right."""
    taken = set()
    cases = [make(name) for name in USED]
    cases += [
        (Function(function, w=torch.rand(3, 4) + 0.5, b=torch.rand(4) + 0.5).double(), inputs)
        for function, inputs in (
            (lambda m, h: torch.addmm(m.b, h, m.w, beta=0.3, alpha=-2.0), x(3).double()),
            (_scaled_bmm, x(2, 3).double()),
            (
                lambda m, h: torch.add(torch.sub(h @ m.w, m.b, alpha=3), m.b, alpha=-0.5),
                x(3).double(),
            ),
            (lambda m, h: (m.b - h @ m.w) / m.b, x(3).double()),
            (lambda m, h: m.b / (2 + (h @ m.w).sin()), x(3).double()),
            (lambda m, h: m.w[torch.tensor([-1, 0, 1])[h[:, 0].long() % 3]], x(3).double()),
        )
    ]
    for model, inputs in cases:
        block = ff.empirical_ntk(model, outputs="sum")._engine.gradients(inputs).block
        assert not block.plan.slow
        names = (block.graph.names[use.node] for uses in block.plan.fast.values() for use in uses)
        taken |= {name.rpartition("Backward")[0] for name in names}
    # On CPUs RMSNorm is made of products.
    assert taken >= set(RULES) - {"FusedRmsNorm"}


def test_the_rule_of_the_rms_norm_of_gpus() -> None:
    h, signal = x(4, 3).double(), x(4, 3).double()
    w = torch.randn(3, dtype=torch.float64, requires_grad=True)
    scale = (h.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    saved = {"_saved_input": h, "_saved_result1": scale}
    node = SimpleNamespace(_input_metadata=[h], **saved)
    case = Case(node, 1, (3,), Layout(0, 1, 1), 5, signal.unsqueeze(0))
    found = RULES["FusedRmsNorm"](case).dense()[:, 0]
    for sample in range(5):
        outputs = nn.functional.rms_norm(h[sample], [3], w, 1e-5)
        (wanted,) = torch.autograd.grad(outputs, w, signal[sample])
        torch.testing.assert_close(found[sample], wanted, rtol=1e-12, atol=1e-12)
