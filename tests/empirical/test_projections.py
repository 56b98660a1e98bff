"""Products of gradients with directions: those of dense Jacobians, whichever way is taken."""

import pytest
import torch
from zoo import make

import farfield as ff
from farfield.empirical import projections
from farfield.empirical.factors import Lookup, Outer
from farfield.empirical.kernel import engine_of
from farfield.empirical.projections import add_weighed, backwards_pays, projected
from oracles import jacobians

NAMES = [
    "linear on positions",
    "layer norm on positions",
    "conv1d",
    "cnn with max pooling",
    "transposed conv2d",
    "transformer encoder",
    "tied decoder",
    "embedding with padding",
    "low-rank addition",
    "parameter on the left of sequences",
    "a matrix for each head",
    "weight norm",
    "several outputs",
    "keyword inputs",
    "operation of one's own",
]


@pytest.mark.parametrize("name", NAMES)
def test_dense_jacobians(name, monkeypatch) -> None:
    model, inputs = make(name)
    gradients = engine_of(model, "full").gradients(inputs)
    dense = jacobians(model, inputs)
    parameters = dict(model.named_parameters())
    directions = {p: torch.randn(3, *parameters[p].shape, dtype=torch.float64) for p in dense}
    wanted = sum(rows @ directions[p].flatten(1).T for p, rows in dense.items())
    for at_once in (projections._AT_ONCE, 1):  # all directions together, and one by one
        monkeypatch.setattr(projections, "_AT_ONCE", at_once)
        found = projected(gradients, directions)
        # Rounding of sums of some hundred terms in float64.
        assert (found - wanted).norm() < 1e-12 * wanted.norm()


@pytest.mark.parametrize("name", [*NAMES, "a scale"])
def test_weighed_sums_of_dense_jacobians(name) -> None:
    """Also with room for a single row of a parameter."""
    model, inputs = (Scaled(), torch.randn(5, 3).double()) if name == "a scale" else make(name)
    gradients = engine_of(model, "full").gradients(inputs)
    dense = jacobians(model, inputs)
    weights = torch.randn(gradients.samples, gradients.outputs, 3).double()
    for scratch in (10**9, 1):
        found = {
            name: torch.zeros(3, *parameter.shape).double()
            for name, parameter in model.named_parameters()
        }
        for _ in range(2):  # it adds
            add_weighed(found, gradients, weights, scratch)
        for name, rows in dense.items():
            wanted = 2.0 * torch.einsum("nok,nop->kp", weights, rows)
            assert (found[name].view(3, -1) - wanted).norm() <= 1e-12 * wanted.norm()
            found.pop(name)
        assert not any(bool(rest.any()) for rest in found.values())


def test_directions_of_a_scalar() -> None:
    model, x = Scaled(), torch.randn(5, 3).double()
    named = {name: torch.randn(4, *p.shape).double() for name, p in model.named_parameters()}
    found = projected(engine_of(model, "full").gradients(x), named)
    wanted = sum(r @ named[p].reshape(4, -1).T for p, r in jacobians(model, x).items())
    torch.testing.assert_close(found, wanted)


class Scaled(torch.nn.Module):
    """A parameter without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2).double()
        self.scale = torch.nn.Parameter(torch.tensor(1.5).double())

    def forward(self, x):
        return self.scale * self.linear(x).tanh()


def outer(positions: int, groups: int, transposed: bool) -> Outer:
    values = torch.randn(4, groups, positions, 5).double()
    return Outer(values, torch.randn(4, 2, groups, positions, 3).double(), transposed)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("positions", [1, 40])
def test_both_ways_of_a_linear_map(positions, groups, transposed) -> None:
    """One position is cheaper in pieces, forty are cheaper written out."""
    factor = outer(positions, groups, transposed)
    directions = torch.randn(6, groups * 15).double()
    apart, written = projections._costs(factor, 6)
    assert (apart < written) == (positions == 1)
    wanted = factor.dense() @ directions.T
    for found in (
        projections._along(factor, directions),
        projections._in_groups(factor, directions),
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12 * float(wanted.abs().max()))


def test_rows_of_a_table() -> None:
    tokens = torch.tensor([[0, 2, -1], [3, 3, 1]])
    factor = Lookup(tokens, torch.randn(2, 2, 3, 4).double(), rows=5)
    directions = torch.randn(6, 5, 4).double()
    wanted = factor.dense() @ directions.flatten(1).T
    torch.testing.assert_close(projections._along(factor, directions), wanted)


def test_fewest_operations() -> None:
    """3 K products of every layer forwards; 1 + O + K backwards, and one for each output's sum."""

    def pays(outputs: int, directions: int) -> bool:
        model = torch.nn.Sequential(*(torch.nn.Linear(100, 100, bias=False) for _ in range(2)))
        model.append(torch.nn.Linear(100, outputs, bias=False))
        gradients = engine_of(model, "full").gradients(torch.randn(4, 100))
        run = 2 * 100 * 100 + 100 * outputs
        sums = directions * outputs * (2 * 100 + outputs)
        wanted = run * (1 + outputs + directions) + sums < 3 * directions * run
        assert backwards_pays(gradients, directions) == wanted
        return wanted

    assert pays(10, 20)
    assert pays(1, 2)
    assert not pays(1, 1)
    assert not pays(100, 20)
    slow = engine_of(make("operation of one's own")[0], "full")
    assert not backwards_pays(slow.gradients(make("operation of one's own")[1]), 1000)


def test_features_are_the_same_either_way() -> None:
    model = ff.mlp(3, [40, 40], 4, norm="layer").double()
    x, y = torch.randn(20, 3).double(), torch.randint(4, (20,))
    found = []
    for features in (2, 12):  # 4 outputs: forwards, and backwards
        la = ff.LinearizedLaplace(model, "classification", method="nystrom", features=features)
        la.fit((x, y))
        assert la._network.goes_backwards(x, features) == (features == 12)
        phi = la.posterior.features(la._network, x)
        directions = torch.cat([stack.flatten(1) for stack in la.posterior.subspace.directions], 1)
        dense = torch.cat(list(jacobians(model, x).values()), 2)
        found.append((phi - dense @ directions.T).norm() / phi.norm())
    assert max(found) < 1e-12
