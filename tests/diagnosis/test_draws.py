"""How networks are drawn: which of the rules counts, the same draws again, nothing changed."""

import copy

import pytest
import torch
from torch import nn

import farfield as ff
from farfield.diagnosis import Draws
from farfield.errors import SettingsError


class Bare(nn.Module):
    """A matrix of its own, without a way to draw it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((40, 30), 3.0))
        self.bias = nn.Parameter(torch.full((40,), 7.0))

    def forward(self, x):
        return x @ self.weight.T + self.bias


def weights(draws, name, count=50):
    return draws.stacked(range(count)).trained[name]


def test_remembered_variances_count_first() -> None:
    model = ff.gaussian_init_(ff.mlp(20, [30], 1), weight_var=1.7, bias_var=0.4)
    with torch.no_grad():
        model[0].weight.mul_(100.0)  # as if trained
    draws = Draws(model, 0)
    assert "gaussian_init_" in draws.source
    # 30,000 and 1,500 entries: relative standard errors of a variance sqrt(2 / n).
    assert float(weights(draws, "0.weight").square().mean()) == pytest.approx(1.7 / 20, rel=0.05)
    assert float(weights(draws, "0.bias").square().mean()) == pytest.approx(0.4, rel=0.2)


def test_then_their_own_reset() -> None:
    model = nn.Sequential(nn.Linear(20, 30), nn.LayerNorm(30), nn.Linear(30, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(9.0)
    draws = Draws(model, 0)
    assert draws.source == "by reset_parameters()"
    drawn = weights(draws, "0.weight")
    assert float(drawn.abs().max()) <= 20**-0.5
    assert float(drawn.square().mean()) == pytest.approx(1 / 60, rel=0.05)
    assert bool((weights(draws, "1.weight") == 1.0).all())


def test_then_what_is_measured() -> None:
    draws = Draws(Bare(), 0)
    assert "measured" in draws.source
    assert float(weights(draws, "weight").square().mean()) == pytest.approx(9.0, rel=0.05)
    assert bool((weights(draws, "bias") == 7.0).all())


def test_frozen_modules_stay() -> None:
    model = ff.gaussian_init_(ff.mlp(3, [4, 5], 1))
    model[0].requires_grad_(False)
    stacked = Draws(model, 0).stacked(range(3))
    assert bool((stacked.others["0.weight"] == model[0].weight).all())
    assert "0.weight" not in stacked.trained
    assert len(stacked.trained["2.weight"].unique(dim=0)) == 3


def test_a_function_is_called_for_every_draw() -> None:
    def build():
        return nn.Sequential(Bare(), nn.Linear(40, 1))

    def xavier():
        model = Bare()
        nn.init.uniform_(model.weight, -1.0, 1.0)
        return model

    assert "build(), called for each draw" in Draws(build, 0).source
    drawn = weights(Draws(xavier, 0), "weight")
    assert float(drawn.abs().max()) <= 1.0
    assert len(drawn.unique(dim=0)) == 50


def test_a_function_that_seeds_itself_is_noticed() -> None:
    def build():
        seed = torch.Generator().manual_seed(0)
        return ff.gaussian_init_(ff.mlp(3, [4], 1), 2.0, 0.1, generator=seed)

    draws = Draws(build, 0)
    assert "gives the same network at each call" in draws.source
    assert len(weights(draws, "0.weight", 3).unique(dim=0)) == 3


@pytest.mark.parametrize("give", [lambda model: model, lambda model: lambda: copy.deepcopy(model)])
def test_single_and_stacked_networks_are_the_same_draws(give) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    draws = Draws(give(model), 5)
    stacked = draws.stacked([0, 2])
    network = draws.network(2)
    for name, own in network.named_parameters():
        assert torch.equal(stacked.trained[name][1], own)
    assert not network.training
    assert not torch.equal(stacked.trained["0.weight"][0], stacked.trained["0.weight"][1])
    other = Draws(give(model), 6).network(2)
    assert not torch.equal(other[0].weight, network[0].weight)


def test_what_cannot_be_drawn_is_refused(as_users_run_it) -> None:
    with pytest.raises(SettingsError, match="is a str"):
        Draws("model", 0)
    with pytest.raises(SettingsError, match="no parameters that are trained"):
        Draws(nn.ReLU(), 0)
    with pytest.raises(SettingsError, match="type int"):
        Draws(lambda: 3, 0)

    sizes = iter(range(2, 100))
    with pytest.raises(SettingsError, match="different shapes"):
        Draws(lambda: nn.Linear(2, next(sizes)), 0).stacked([0, 1])
