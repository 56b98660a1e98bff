"""Cells of inputs: none is lost, values stay in the forms, and few inputs are bounded tightly."""

import math

import pytest
import torch
from torch import nn

import farfield as ff
from farfield.growth import Effort, certify_model, evaluator, pieces
from farfield.growth.cells import cover
from farfield.growth.certificate import _read
from farfield.growth.domain import domain_of

GENERATOR = torch.Generator().manual_seed(0)


def cut(domain, times: int):
    """Cells after some cuts of random ones."""
    cells = cover(domain)
    for _ in range(times):
        chosen = torch.rand(len(cells), generator=GENERATOR) < 0.7
        chosen[0] = True
        cells = pieces.join([cells.rows(~chosen), cells.rows(chosen).halves()])
    return cells


def inside(cells, x):
    """Which inputs are in which cells: (inputs, cells)."""
    sizes = torch.cat([x.abs(), torch.ones(len(x), 1).double()], 1).amax(1, keepdim=True)
    y = torch.cat([x, torch.ones(len(x), 1).double()], 1) / sizes
    at = y[:, None].expand(-1, len(cells), -1).gather(2, cells.place.expand(len(x), -1, -1))
    fixed = cells.offset.expand(len(x), -1, -1) != 0.0
    on_face = (y[:, None] == cells.offset).where(fixed, True).all(-1)
    return on_face & ((at - cells.centre).abs() <= cells.half * (1 + 1e-12)).all(-1)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_input_is_in_a_cell(size: int) -> None:
    cells = cut(domain_of(None, (size,)), 6)
    scale = 10.0 ** torch.empty(500, 1).double().uniform_(-9, 12, generator=GENERATOR)
    x = scale * torch.randn(500, size, generator=GENERATOR).double()
    x = torch.cat([x, torch.zeros(1, size).double(), torch.ones(1, size).double()])
    assert inside(cells, x).any(1).all()
    assert inside(cells, cells.points()).any(1).all()


def test_cells_of_a_box_reach_its_walls() -> None:
    box = (torch.tensor([0.1, -1e6]).double(), torch.tensor([0.3, 1e-3]).double())
    x, rho = cut(domain_of(box, (2,)), 5).forms((1, 2))
    assert (x.low.amin((0, 1)) <= box[0]).all()
    assert (x.high.amax((0, 1)) >= box[1]).all()
    assert (rho.low <= 1.0).all()
    assert (rho.high >= 1.0).all()
    area = (x.high - x.low).prod(-1).sum()
    torch.testing.assert_close(area, (box[1] - box[0]).prod(), rtol=1e-9, atol=0.0)


NETWORKS = {
    "LayerNorm first": lambda: (nn.Linear(2, 9), nn.LayerNorm(9), nn.ReLU(), nn.Linear(9, 2)),
    "LayerNorm last": lambda: (
        nn.Linear(2, 9), nn.GELU(), nn.Linear(9, 9), nn.LayerNorm(9), nn.SiLU(), nn.Linear(9, 2),
    ),
    "tanh, RMSNorm": lambda: (
        nn.Linear(2, 9), nn.Tanh(), nn.Linear(9, 9, bias=False), nn.RMSNorm(9, eps=0.1), nn.ELU(),
        nn.Linear(9, 2),
    ),
    "two norms": lambda: (
        nn.Linear(2, 9), nn.LayerNorm(9, eps=10.0), nn.LeakyReLU(-0.3), nn.Linear(9, 9),
        nn.GroupNorm(3, 9), nn.Softplus(), nn.Linear(9, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_stay_in_the_bounds_of_each_cell(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*NETWORKS[name]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    domain = domain_of(None, (2,))
    _, outputs = _read(model, domain)
    cells = cut(domain, 10)
    low, high = pieces._bounds(pieces._below(outputs), outputs, cells, 10**6)
    scale = 10.0 ** torch.empty(4000, 1).double().uniform_(-3, 9, generator=GENERATOR)
    x = scale * torch.randn(4000, 2, generator=GENERATOR).double()
    rows, held = inside(cells, x).nonzero(as_tuple=True)
    y = evaluator(model)(x)[rows]
    room = 1e-9 * (1.0 + y.abs())  # evaluation in float64
    assert (y <= high[held] + room).all()
    assert (y >= low[held] - room).all()
    width = outputs[0].upper.flatten() - outputs[0].lower.flatten()
    assert (high - low < 0.9 * width).float().mean() > 0.3  # or nothing was tested


@pytest.mark.parametrize(
    ("place", "activation"), [("first", "relu"), ("last", "gelu"), ("every", "tanh")]
)
def test_networks_of_one_input_are_bounded_tightly(place: str, activation: str) -> None:
    model = ff.mlp(1, [24, 24], 1, activation=activation, norm="layer", norm_at=place)
    ff.gaussian_init_(model, generator=torch.Generator().manual_seed(1))
    cert = certify_model(model, effort=Effort(8, 4, 5, descent=0))
    far = torch.logspace(-6, 12, 20_000).double()
    x = torch.cat([far, -far, torch.linspace(-3, 3, 20_000).double()])[:, None]
    values = evaluator(model)(x)
    assert (values <= cert.bound.upper).all()
    assert (values >= cert.bound.lower).all()
    # Cells are cut until they are within 1 % of what was found.
    assert cert.bound.largest <= 1.011 * float(values.abs().max())


def test_a_half_line_is_covered() -> None:
    model = ff.mlp(1, [16], 1, norm="layer")
    ff.gaussian_init_(model, generator=torch.Generator().manual_seed(2))
    cert = certify_model(model, domain={0: (-1.0, math.inf)}, effort=Effort(8, 4, 5, descent=0))
    values = evaluator(model)(torch.linspace(-1, 200, 20_000).double()[:, None])
    assert (values <= cert.bound.upper).all()
    assert (values >= cert.bound.lower).all()
