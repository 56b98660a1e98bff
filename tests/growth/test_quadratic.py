"""Quadratic forms of all layers: relations that hold, bounds that no multipliers break."""

import dataclasses
import functools
import math

import pytest
import torch
from torch import Tensor, nn

import farfield as ff
from farfield.growth import Effort, certify_model, evaluator
from farfield.growth.certificate import _read
from farfield.growth.chain import Chain, Map, chain_of
from farfield.growth.domain import domain_of
from farfield.growth.quadratic import Quadratic, _Multipliers

PLAIN = Effort(rays=32, starts=16, steps=60, cells=0, descent=0)


def network(name: str) -> nn.Module:
    """A network with parameters that all differ from 0 and 1."""
    place, kind, activation, depth = name.split()
    hidden = [8, 9, 10][: int(depth)]
    model = ff.mlp(3, hidden, 2, norm=kind, norm_at=place, activation=activation)
    generator = torch.Generator().manual_seed(len(name))
    ff.gaussian_init_(model, generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


NAMES = ("first layer relu 2", "last layer relu 2", "every rms leaky_relu 2")


@functools.cache
def read(name: str) -> tuple[Chain, Map]:
    _, outputs = _read(network(name), domain_of(None, (3,)))
    found = chain_of(outputs[0])
    assert found is not None
    return found


def last_activation(chain: Chain, xi: Tensor) -> Tensor:
    h = xi @ chain.last.rows.T
    return torch.where(h > 0, chain.slopes[1] * h, chain.slopes[0] * h)


def squares(xi: Tensor, forms: tuple) -> Tensor:
    left, right = ((xi @ part.rows.T).square().sum(1) for part in forms)
    return left - right


@pytest.mark.parametrize("name", [*NAMES, "last layer relu 3"])
def test_the_points_of_a_network_have_all_relations(name: str) -> None:
    """They are evaluated with float64, on numbers of order 10."""
    chain, last = read(name)
    xi = chain.points(300, torch.Generator().manual_seed(0))
    tight = {"rtol": 0.0, "atol": 1e-9}
    assert float((xi @ chain.signs.rows.T).min()) > -1e-9
    u, s = xi @ chain.units.rows.T, xi @ chain.below.rows.T
    torch.testing.assert_close(u, s.clamp(min=0.0), **tight)
    assert all(float(squares(xi, forms).min()) > -1e-9 for forms in chain.balls)
    for forms in chain.spheres:
        torch.testing.assert_close(squares(xi, forms), torch.zeros(300).double(), **tight)
    found = last_activation(chain, xi) @ last.matrix.T + last.offset
    if not chain.balls:  # then xi holds the input, times a number
        p = xi[:, chain.parts[1]]
        exact = evaluator(network(name))(p[:, :-1] / p[:, -1:])
        torch.testing.assert_close(found, exact, **tight)


@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_multipliers_no_point_exceeds_the_bound(name: str) -> None:
    chain, last = read(name)
    quadratic = Quadratic(chain, torch.Generator().manual_seed(0))
    row = last.matrix[0]
    generator = torch.Generator().manual_seed(1)
    values = last_activation(chain, chain.points(20_000, generator)) @ row
    good = quadratic._improved(row / row.norm(), 100).mapped(Tensor.double)
    proven = 0
    for share in (0.0, 0.01, 0.03, 0.1, 0.3):

        def changed(x: Tensor, share: float = share) -> Tensor:
            noise = torch.randn(x.shape, dtype=torch.float64, generator=generator)
            return row.norm() * (x + share * x.abs().mean() * noise)

        other = good.mapped(changed)
        other = _Multipliers(
            other.curve, other.slope, other.relus, other.products.clamp(min=0.0),
            other.balls.clamp(min=0.0), other.spheres, other.top,
        )  # fmt: skip
        bound = quadratic._verified(row, other)
        assert float(values.max()) <= bound
        proven += math.isfinite(bound)
    assert proven >= (5 if chain.limits is not None else 1)


def test_the_corner_is_the_maximum_of_a_quadratic_form() -> None:
    """``a + 2 b . y - y' C y`` is at most ``a + b' C^-1 b``; without C > 0 there is no maximum."""
    generator = torch.Generator().manual_seed(0)
    quadratic = Quadratic(read(NAMES[0])[0], generator)
    root = torch.randn(6, 6, generator=generator).double()
    c, b = root @ root.T + torch.eye(6), torch.randn(6, generator=generator).double()
    matrix = torch.cat([torch.cat([torch.tensor([[2.0]]), b[None]], 1),
                        torch.cat([b[:, None], -c], 1)]).double()  # fmt: skip
    exact = 2.0 + float(b @ torch.linalg.solve(c, b))
    assert exact <= quadratic._corner(matrix, 0.0, 0.0) <= exact * (1.0 + 1e-9)
    matrix[3, 3] = 1.0
    assert quadratic._corner(matrix, 0.0, 0.0) == math.inf


def test_bounds_become_tighter_and_stay_bounds() -> None:
    """Against many inputs of all sizes, and the bound without the quadratic forms."""
    generator = torch.Generator().manual_seed(1)
    model = ff.mlp(3, [16, 16], 1, norm="layer", norm_at="last", activation="leaky_relu")
    ff.gaussian_init_(model, generator=generator)
    scale = 10.0 ** torch.empty(50_000, 1).double().uniform_(-2, 8, generator=generator)
    values = evaluator(model)(scale * torch.randn(50_000, 3, generator=generator).double())
    before = certify_model(model, effort=PLAIN)
    after = certify_model(model, effort=dataclasses.replace(PLAIN, descent=120))
    assert (values <= after.bound.upper).all()
    assert (values >= after.bound.lower).all()
    assert after.bound.largest <= 0.8 * before.bound.largest


def test_other_networks_have_no_chain() -> None:
    for model in (
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)),
        nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1)),
        nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.ReLU(), nn.Linear(4, 1)),
        nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)),
    ):
        _, outputs = _read(model.eval(), domain_of(None, (3,)))
        assert chain_of(outputs[0]) is None
